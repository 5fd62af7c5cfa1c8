import CNLGenl
import Glibc

/// libnl's own error codes (netlink/errno.h) are not errnos: the nearest errno of each.
///
/// libnl loses the errno of a failed send or receive this way; what the kernel answers is read without libnl
/// and keeps its errno.
package func errnoOfLibnl(_ code: Int32) -> Int32 {
    switch abs(code) {
    case NLE_SUCCESS: 0
    case NLE_INTR, NLE_DUMP_INTR: EINTR
    case NLE_BAD_SOCK: EBADF
    case NLE_AGAIN: EAGAIN
    case NLE_NOMEM: ENOMEM
    case NLE_EXIST: EEXIST
    case NLE_RANGE: ERANGE
    case NLE_MSGSIZE, NLE_MSG_OVERFLOW: EMSGSIZE
    case NLE_OPNOTSUPP, NLE_MSGTYPE_NOSUPPORT, NLE_SRCRT_NOSUPPORT: EOPNOTSUPP
    case NLE_AF_NOSUPPORT, NLE_AF_MISMATCH: EAFNOSUPPORT
    case NLE_OBJ_NOTFOUND, NLE_PKTLOC_FILE, NLE_NOCACHE: ENOENT
    case NLE_NOADDR: EADDRNOTAVAIL
    case NLE_BUSY: EBUSY
    case NLE_PROTO_MISMATCH: EPROTONOSUPPORT
    case NLE_NOACCESS: EACCES
    case NLE_PERM: EPERM
    case NLE_NODEV: ENODEV
    case NLE_SEQ_MISMATCH, NLE_MSG_TRUNC, NLE_MSG_TOOSHORT, NLE_PARSE_ERR: EBADMSG
    case NLE_INVAL, NLE_NOATTR, NLE_MISSING_ATTR, NLE_OBJ_MISMATCH, NLE_ATTRSIZE, NLE_IMMUTABLE: EINVAL
    default: EIO
    }
}

/// libnl's text for one of its codes.
func textOfLibnl(_ code: Int32) -> String { String(cString: nl_geterror(code)) }
