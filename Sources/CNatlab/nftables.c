// libnftables opens its socket, and reads names of protocols and interfaces, in the namespace of the calling thread.
#define _GNU_SOURCE
#include <errno.h>
#include <nftables/libnftables.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "CNatlab.h"
#include "thread.h"

struct nft_run {
    int network;
    const char *commands;
    bool as_rules;
    char **output;
    char **messages;
    int result;
};

static int copy(const char *text, char **target) {
    *target = strdup(text == NULL ? "" : text);
    return *target == NULL ? -ENOMEM : 0;
}

static int run_nft(const struct nft_run *run) {
    if (setns(run->network, CLONE_NEWNET) < 0) return -errno;
    struct nft_ctx *context = nft_ctx_new(NFT_CTX_DEFAULT);
    if (context == NULL) return -ENOMEM;
    if (run->as_rules)
        nft_ctx_output_set_flags(
            context, NFT_CTX_OUTPUT_HANDLE | NFT_CTX_OUTPUT_STATELESS | NFT_CTX_OUTPUT_TERSE);
    int result = -ENOMEM;
    if (nft_ctx_buffer_output(context) == 0 && nft_ctx_buffer_error(context) == 0) {
        int refused = nft_run_cmd_from_buffer(context, run->commands);
        result = copy(nft_ctx_get_output_buffer(context), run->output);
        if (result == 0) result = copy(nft_ctx_get_error_buffer(context), run->messages);
        if (result == 0 && refused != 0) result = -EINVAL;
    }
    nft_ctx_free(context);
    return result;
}

static void *run_nft_thread(void *argument) {
    struct nft_run *run = argument;
    run->result = run_nft(run);
    return NULL;
}

int natlab_nft_in(int network, const char *commands, bool as_rules, char **output, char **messages) {
    *output = NULL;
    *messages = NULL;
    struct nft_run run = {network, commands, as_rules, output, messages, 0};
    // Its parser recurses and keeps large buffers on the stack.
    int error = in_large_thread(run_nft_thread, &run);
    return error < 0 ? error : run.result;
}
