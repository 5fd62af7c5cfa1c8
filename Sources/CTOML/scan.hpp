// A lexical look at the file before toml++ sees it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "CTOML.h"

namespace natlab {

/// A statement: a table header or a key with its value, which may take several lines.
struct Statement {
    size_t begin = 0;
    /// Past its last byte, without the line break.
    size_t end = 0;
    uint32_t line = 0;
    uint32_t last_line = 0;
    bool header = false;
};

struct Scan {
    std::vector<Statement> statements;
    /// Null when the file is within the bounds.
    const char *refusal = nullptr;
    natlab_toml_region where{};
};

/// Finds the statements, and the first place that breaks a bound.
///
/// Reads strings, comments and brackets just as TOML does wherever the file is right. Where it is wrong toml++ stops,
/// so a bound can be missed only behind an error, where nothing is parsed.
Scan scan(std::string_view text);

/// Columns count Unicode scalars: this counts those that begin in the bytes.
uint32_t scalars(std::string_view text);

}  // namespace natlab
