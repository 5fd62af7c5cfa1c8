package import NetAddress

/// What is to be written into a pcapng file; source of all names and numbers: draft-ietf-opsawg-pcapng.
package enum Pcapng {
    /// A section header (4.1): who made what follows, and where.
    package struct Section: Hashable, Sendable {
        /// opt_comment.
        package var comment: String
        /// shb_hardware: the machine's kind.
        package var hardware: String
        /// shb_os.
        package var system: String
        /// shb_userappl.
        package var application: String

        package init(comment: String, hardware: String, system: String, application: String) {
            self.comment = comment
            self.hardware = hardware
            self.system = system
            self.application = application
        }
    }

    /// How a packet begins; the registry is draft-ietf-opsawg-pcaplinktype.
    package enum LinkType: UInt16, Sendable {
        /// LINKTYPE_ETHERNET.
        case ethernet = 1
        /// LINKTYPE_RAW: with the IP header, version 4 or 6.
        case ip = 101
    }

    /// An interface description (4.2); its time stamps count nanoseconds.
    package struct Interface: Hashable, Sendable {
        /// if_name.
        package var name: String
        /// if_description.
        package var description: String
        package var linkType: LinkType
        /// if_IPv4addr and if_IPv6addr, with the prefix lengths of their networks.
        package var addresses: [IPPrefix]
        /// The most bytes that are kept of a packet.
        package var snapLength: UInt32

        package init(
            name: String, description: String, linkType: LinkType, addresses: [IPPrefix], snapLength: UInt32
        ) {
            self.name = name
            self.description = description
            self.linkType = linkType
            self.addresses = addresses
            self.snapLength = snapLength
        }
    }

    /// A name for an address, of a name resolution block (4.5).
    package struct Name: Hashable, Sendable {
        package var address: IPAddress
        package var name: String

        package init(_ address: IPAddress, _ name: String) {
            self.address = address
            self.name = name
        }
    }

    /// What epb_flags says of a packet (4.3.1).
    package struct Flags: Hashable, Sendable {
        package enum Direction: UInt32, Sendable {
            case unknown = 0
            case inbound = 1
            case outbound = 2
        }

        /// Whom it was for.
        package enum Reception: UInt32, Sendable {
            case unspecified = 0
            case unicast = 1
            case multicast = 2
            case broadcast = 3
            /// Somebody else.
            case promiscuous = 4
        }

        package var direction: Direction
        package var reception: Reception

        package init(_ direction: Direction, _ reception: Reception = .unspecified) {
            self.direction = direction
            self.reception = reception
        }

        var bits: UInt32 { direction.rawValue | reception.rawValue << 2 }
    }

    /// What an enhanced packet block (4.3) says beside the packet's bytes.
    package struct PacketHeader: Hashable, Sendable {
        /// The interface's place among those of the section.
        package var interface: UInt32
        /// Nanoseconds since the Unix epoch.
        package var time: UInt64
        /// Of the packet on the wire; what is kept may be less.
        package var originalLength: UInt32
        package var flags: Flags

        package init(interface: UInt32, time: UInt64, originalLength: UInt32, flags: Flags) {
            self.interface = interface
            self.time = time
            self.originalLength = originalLength
            self.flags = flags
        }
    }

    /// Interface statistics (4.6).
    package struct Statistics: Hashable, Sendable {
        package var interface: UInt32
        /// Of the capture, in nanoseconds since the Unix epoch: isb_starttime, isb_endtime.
        package var start: UInt64
        package var end: UInt64
        /// isb_ifrecv: what came, the dropped ones too.
        package var received: UInt64
        /// isb_ifdrop: what the capture was too slow for.
        package var dropped: UInt64
        /// isb_usrdeliv: what is in the file.
        package var delivered: UInt64

        package init(
            interface: UInt32, start: UInt64, end: UInt64, received: UInt64, dropped: UInt64,
            delivered: UInt64
        ) {
            self.interface = interface
            self.start = start
            self.end = end
            self.received = received
            self.dropped = dropped
            self.delivered = delivered
        }
    }
}
