import LabPlanner
import SystemCalls

/// Whether the running kernel has what nftables rules of NATs need: tried with such rules, in a namespace that is made for
/// that and goes with its file.
enum NftablesAbility {
    /// Throws when the kernel refuses what natlab's NATs are made of, where the plan has such a NAT.
    static func check(_ plan: LabPlan) throws(OperationFailure) {
        let isNeeded = plan.steps.contains { if case .loadNftables = $0.effect { true } else { false } }
        guard isNeeded else { return }
        let place = try NetworkNamespace.unnamed()
        do throws(OperationFailure) {
            try load(natRulesToTry, in: place.rawValue)
        } catch {
            throw OperationFailure(
                "load", "the nftables rules of a NAT", errno: error.errno, detail: error.detail, mend: mend)
        }
    }

    static let mend =
        Doctor.kernelMend(module: "nft_chain_nat", option: "CONFIG_NF_TABLES and CONFIG_NFT_NAT")
        + "; without it only \"none\" and the NATs that are MASQUERADE work"

    /// - Parameter file: of the namespace.
    static func load(_ text: String, in file: Int32) throws(OperationFailure) {
        try NetworkNamespace("a namespace to try things in", path: "/proc/self/fd/\(file)").nft(text)
    }
}
