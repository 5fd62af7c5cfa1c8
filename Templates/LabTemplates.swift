/// The topologies that `natlab init` writes, embedded in the binary so that it can be moved freely.
package struct LabTemplate: Sendable {
    /// The name to ask for, also the file's name without ".toml".
    package let name: String
    /// The file, byte for byte.
    package let text: String

    /// The first comment of the file, in one line.
    package var summary: String {
        text.split(separator: "\n").first.map { $0.drop { $0 == "#" || $0 == " " } }.map(String.init) ?? ""
    }

    package static let all: [LabTemplate] = [
        LabTemplate(name: "quickstart", bytes: PackageResources.quickstart_toml),
        LabTemplate(name: "cgnat", bytes: PackageResources.cgnat_toml),
        LabTemplate(name: "mobile", bytes: PackageResources.mobile_toml),
        LabTemplate(name: "static", bytes: PackageResources.static_toml),
        LabTemplate(name: "same-nat", bytes: PackageResources.same_nat_toml),
        LabTemplate(name: "full-cone", bytes: PackageResources.full_cone_toml),
        LabTemplate(name: "symmetric", bytes: PackageResources.symmetric_toml),
        LabTemplate(name: "hairpin", bytes: PackageResources.hairpin_toml),
        LabTemplate(name: "carrier", bytes: PackageResources.carrier_toml),
        LabTemplate(name: "matrix", bytes: PackageResources.matrix_toml),
        LabTemplate(name: "not-found", bytes: PackageResources.not_found_toml),
    ]

    private init(name: String, bytes: [UInt8]) {
        self.name = name
        text = String(decoding: bytes, as: UTF8.self)
    }
}
