// swift-tools-version: 6.3
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

func layer(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: strict)
}

let package = Package(
    name: "natlab",
    products: [.executable(name: "natlab", targets: ["natlab"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        // System libraries and what only C can do.
        .systemLibrary(name: "CMNL", pkgConfig: "libmnl", providers: [.apt(["libmnl-dev"])]),
        .systemLibrary(
            name: "CNLGenl", pkgConfig: "libnl-genl-3.0", providers: [.apt(["libnl-genl-3-dev"])]),
        .systemLibrary(name: "CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
        .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(
            name: "CNFTables", pkgConfig: "libnftables", providers: [.apt(["libnftables-dev"])]),
        .target(
            name: "CTOML",
            cxxSettings: [
                .define("TOML_EXCEPTIONS", to: "0"), .define("NDEBUG"),
                .unsafeFlags(["-fno-exceptions", "-Wall", "-Wextra", "-Werror"]),
            ]),
        .target(
            name: "CNatlab", dependencies: ["CNFTables"],
            cSettings: [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])]),

        // Pure layers: no system library, no root.
        layer("NetAddress"),
        layer("TopologyModel", ["NetAddress", "CTOML"]),
        layer("LabPlanner", ["TopologyModel", "NetAddress"]),
        layer("PcapngFormat", ["NetAddress"]),

        // No effects either: bytes, time and randomness are passed in. Its ciphers are those of WireGuardKeys.
        layer("RendezvousProtocol", ["NetAddress", "WireGuardKeys", "SystemCalls"]),

        // Layers with effects.
        layer("SystemCalls", ["CNatlab", "NetAddress"]),
        layer("WireGuardKeys", ["CSodium", "CCrypto", "SystemCalls"]),
        layer("NetlinkWire", ["CMNL", "CNLGenl", "CNatlab", "NetAddress", "SystemCalls"]),
        layer(
            "WireGuardControl",
            ["NetlinkWire", "NetAddress", "SystemCalls", "WireGuardKeys", "CNatlab"]),
        layer(
            "LinuxLab",
            [
                "LabPlanner", "NetlinkWire", "WireGuardControl", "WireGuardKeys", "NetAddress",
                "SystemCalls", "CNatlab",
            ]),
        layer(
            "RendezvousService",
            [
                "RendezvousProtocol", "WireGuardControl", "WireGuardKeys", "NetAddress", "SystemCalls",
                "CNatlab",
            ]),
        layer(
            "PeeringCheck",
            [
                "NATMeasurement", "LabPlanner", "LinuxLab", "TopologyModel", "NetlinkWire",
                "WireGuardControl",
                "WireGuardKeys", "NetAddress", "SystemCalls",
            ]),
        layer(
            "NATMeasurement", ["TopologyModel", "NetlinkWire", "NetAddress", "SystemCalls", "CNatlab"]),
        layer(
            "PacketCapture",
            ["PcapngFormat", "NetlinkWire", "NetAddress", "SystemCalls", "CNatlab"]),
        layer(
            "PathTrace",
            ["RendezvousProtocol", "NetlinkWire", "NetAddress", "SystemCalls", "CNatlab"]),
        layer(
            "LabAgent",
            [
                "RendezvousService", "RendezvousProtocol", "LinuxLab", "LabPlanner", "WireGuardControl",
                "WireGuardKeys", "NetAddress", "SystemCalls",
                .product(name: "Logging", package: "swift-log"),
            ]),
        layer(
            "PeeringDiagnosis",
            [
                "LabAgent", "PeeringCheck", "PathTrace", "RendezvousProtocol", "LinuxLab", "LabPlanner",
                "TopologyModel",
                "NetlinkWire", "WireGuardControl", "WireGuardKeys", "NetAddress", "SystemCalls",
            ]),
        layer(
            "NatlabCommands",
            [
                "PeeringDiagnosis", "PathTrace", "RendezvousProtocol",
                "LabAgent", "PeeringCheck", "NATMeasurement", "RendezvousService", "LinuxLab", "LabPlanner",
                "TopologyModel", "WireGuardControl", "WireGuardKeys", "NetAddress", "SystemCalls",
                "LabTemplates", "PacketCapture", "PcapngFormat", "NetlinkWire",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ]),
        .target(
            name: "LabTemplates", path: "Templates",
            resources: [
                .embedInCode("quickstart.toml"), .embedInCode("cgnat.toml"),
                .embedInCode("mobile.toml"), .embedInCode("static.toml"),
                .embedInCode("same-nat.toml"), .embedInCode("full-cone.toml"),
                .embedInCode("symmetric.toml"), .embedInCode("hairpin.toml"),
                .embedInCode("carrier.toml"), .embedInCode("matrix.toml"),
                .embedInCode("not-found.toml"),
            ],
            swiftSettings: strict),
        .executableTarget(name: "natlab", dependencies: ["NatlabCommands"], swiftSettings: strict),

        // Pure tests: no root.
        tests("NetAddressTests", ["NetAddress"]),
        tests("TopologyModelTests", ["TopologyModel", "NetAddress"]),
        tests("LabPlannerTests", ["LabPlanner", "TopologyModel", "NetAddress", "LabTemplates"]),
        tests("WireGuardKeysTests", ["WireGuardKeys", "SystemCalls", "TestSupport"]),
        .testTarget(
            name: "RendezvousProtocolTests",
            dependencies: ["RendezvousProtocol", "WireGuardKeys", "NetAddress", "SystemCalls"],
            resources: [.embedInCode("natpunch.json")], swiftSettings: strict),
        tests("PcapngFormatTests", ["PcapngFormat", "NetAddress"]),
        tests("PacketCaptureTests", ["PacketCapture"]),
        tests("PathTraceTests", ["PathTrace", "NetAddress"]),
        tests("NetlinkWireTests", ["NetlinkWire", "NetAddress", "SystemCalls"]),
        tests(
            "WireGuardControlTests",
            ["WireGuardControl", "WireGuardKeys", "NetlinkWire", "NetAddress", "SystemCalls"]),
        tests(
            "PeeringCheckTests",
            [
                "PeeringCheck", "NATMeasurement", "LinuxLab", "LabPlanner", "TopologyModel",
                "WireGuardControl", "WireGuardKeys", "NetAddress", "SystemCalls",
            ]),
        tests(
            "PeeringDiagnosisTests",
            [
                "PeeringDiagnosis", "NatlabCommands", "LabAgent", "PeeringCheck", "PathTrace",
                "RendezvousProtocol", "LinuxLab", "LabPlanner", "TopologyModel", "WireGuardControl",
                "WireGuardKeys", "NetAddress", "TestSupport",
            ]),
        tests(
            "NATMeasurementTests", ["NATMeasurement", "TopologyModel", "NetAddress", "SystemCalls"]),
        tests(
            "NatlabCommandsTests",
            [
                "NatlabCommands", "PeeringDiagnosis", "PeeringCheck", "LinuxLab", "LabPlanner",
                "TopologyModel",
                "NetAddress", "SystemCalls", "PcapngFormat",
            ]),

        // Privileged tests: root, the running kernel, real tools as witnesses.
        .target(
            name: "TestSupport",
            dependencies: ["SystemCalls", "WireGuardKeys", "CNatlab", "LabTemplates"],
            path: "Tests/TestSupport",
            swiftSettings: strict),
        tests(
            "LinuxLabPrivilegedTests",
            [
                "LinuxLab", "LabPlanner", "TopologyModel", "NetlinkWire", "WireGuardControl", "NetAddress",
                "SystemCalls", "TestSupport", "LabTemplates",
            ]),
        tests(
            "WireGuardPrivilegedTests",
            [
                "WireGuardControl", "WireGuardKeys", "PathTrace", "NetAddress", "SystemCalls", "TestSupport",
            ]),
        .testTarget(
            name: "RendezvousPrivilegedTests",
            dependencies: [
                "RendezvousService", "RendezvousProtocol", "WireGuardControl", "WireGuardKeys", "NetAddress",
                "SystemCalls", "TestSupport",
            ],
            exclude: ["Witness"], swiftSettings: strict),
        tests(
            "NATMeasurementPrivilegedTests",
            [
                "NATMeasurement", "TopologyModel", "NetlinkWire", "NetAddress", "SystemCalls", "TestSupport",
            ]),
        tests(
            "PathTracePrivilegedTests", ["PathTrace", "NetAddress", "SystemCalls", "TestSupport"]),
        tests("WhyPrivilegedTests", ["TestSupport", "SystemCalls", "WireGuardKeys", "NetAddress", "natlab"]),
        tests("EndToEndPrivilegedTests", ["TestSupport", "SystemCalls", "LabTemplates", "natlab"]),
        tests("NATPrivilegedTests", ["TestSupport", "SystemCalls", "natlab"]),
    ],
    cxxLanguageStandard: .cxx17
)
