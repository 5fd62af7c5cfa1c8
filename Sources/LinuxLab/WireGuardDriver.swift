import Glibc
package import LabPlanner
package import SystemCalls
package import WireGuardControl

/// What makes the lab's WireGuard interfaces work; tests put their own in.
package protocol WireGuardDriver: AnyObject {
    /// Decides on the backend of an interface, before anything is made; throws what the machine lacks, with
    /// its mend.
    func resolve(_ wanted: PlannedTunnel.Backend) throws(OperationFailure) -> LabRecord.Backend

    /// Starts the userspace interfaces and returns when all of them answer; all or none.
    func startUserspace(_ tunnels: [PlannedTunnel], in state: LabState) throws(OperationFailure)

    /// The way to an interface that exists.
    func transport(to tunnel: PlannedTunnel, in state: LabState) throws(OperationFailure)
        -> any WireGuardTransport
}
