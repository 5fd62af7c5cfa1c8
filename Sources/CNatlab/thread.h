// Shared by the files that run something in a thread of its own; not part of the module.
#ifndef NATLAB_THREAD_H
#define NATLAB_THREAD_H

// Runs `body(argument)` in a thread of its own with all signals blocked, so that no handler runs over there; 0 or
// -errno. Whatever namespaces the body enters go with the thread.
__attribute__((visibility("hidden"))) int in_thread(void *(*body)(void *), void *argument);

// The same with the stack of an ordinary program (8 MiB), for foreign code.
__attribute__((visibility("hidden"))) int in_large_thread(void *(*body)(void *), void *argument);

#endif
