// <netinet/in.h> comes first: modules that include Linux headers clash otherwise.
#include <netinet/in.h>
#include <nftables/libnftables.h>
