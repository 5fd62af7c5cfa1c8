import LabPlanner
import SystemCalls

/// Whether the running kernel has what a plan's nftables rules need: tried with such rules, in a namespace that is made for
/// that and goes with its file.
enum NftablesAbility {
    /// Throws when the kernel refuses the first rules of the plan; names their router.
    static func check(_ plan: LabPlan) throws(OperationFailure) {
        for step in plan.steps {
            guard case .loadNftables(let namespace, let text) = step.effect else { continue }
            let place = try NetworkNamespace.unnamed()
            do throws(OperationFailure) {
                try load(text, in: place.rawValue)
            } catch {
                throw OperationFailure(
                    "load the nftables rules of", namespace, errno: error.errno, detail: error.detail,
                    mend: mend)
            }
            return
        }
    }

    static let mend =
        Doctor.kernelMend(module: "nft_chain_nat", option: "CONFIG_NF_TABLES and CONFIG_NFT_NAT")
        + "; without it only the NATs \"masquerade\", \"blocked\", \"rejected\" and \"none\" work"

    /// - Parameter file: of the namespace.
    static func load(_ text: String, in file: Int32) throws(OperationFailure) {
        try NetworkNamespace("a namespace to try things in", path: "/proc/self/fd/\(file)").nft(text)
    }
}
