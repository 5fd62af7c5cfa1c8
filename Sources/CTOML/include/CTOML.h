// toml++ behind a C API: bytes in, a flat tree of nodes with source regions out. Never aborts on input.
#pragma once

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

#ifdef __cplusplus
extern "C" {
#endif

/// The longest file that is parsed, in bytes. A topology of 1,000 hosts has 60,000; toml++ takes quadratic time for
/// files made to be slow, so the bound is also one on time.
#define NATLAB_TOML_MAX_BYTES (1u << 20)
/// The deepest nesting of arrays and inline tables.
#define NATLAB_TOML_MAX_NESTING 32u
/// The most parts of a dotted key. toml++ makes one nested table a part and walks them by recursion.
#define NATLAB_TOML_MAX_KEY_PARTS 16u
/// After so many errors of syntax the parser gives up.
#define NATLAB_TOML_MAX_ERRORS 20u

/// A range of the source. Lines and columns count from 1; columns count Unicode scalars; the end is exclusive.
typedef struct natlab_toml_region {
    uint32_t line;
    uint32_t column;
    uint32_t end_line;
    uint32_t end_column;
} natlab_toml_region;

typedef enum natlab_toml_kind {
    NATLAB_TOML_TABLE = 0,
    NATLAB_TOML_ARRAY = 1,
    NATLAB_TOML_STRING = 2,
    NATLAB_TOML_INTEGER = 3,
    NATLAB_TOML_FLOAT = 4,
    NATLAB_TOML_BOOLEAN = 5,
    NATLAB_TOML_DATE_TIME = 6,
} natlab_toml_kind;

/// One value. Children follow their parent and are linked by index, in the order of the file; -1 ends a list.
typedef struct natlab_toml_node {
    natlab_toml_kind kind;
    int32_t first_child;
    int32_t next_sibling;
    /// The key in the parent table, UTF-8, not terminated; null in an array and for the root.
    const char *_Nullable key;
    size_t key_length;
    natlab_toml_region key_region;
    /// A table's is that of its header, an inline table's that of its braces.
    natlab_toml_region region;
    /// A string's UTF-8 bytes, not terminated; null for other kinds.
    const char *_Nullable text;
    size_t text_length;
    /// The value of an integer, or 0 or 1 for a boolean.
    int64_t integer;
} natlab_toml_node;

typedef enum natlab_toml_error_kind {
    /// Against the grammar.
    NATLAB_TOML_SYNTAX = 0,
    /// A key or table that is already there; `first` says where, when it is known.
    NATLAB_TOML_DUPLICATE = 1,
    /// Too large, too deep, not text: there is no tree.
    NATLAB_TOML_REFUSED = 2,
} natlab_toml_error_kind;

typedef struct natlab_toml_error {
    natlab_toml_error_kind kind;
    natlab_toml_region region;
    /// The place of the first definition; line 0 when unknown.
    natlab_toml_region first;
    /// UTF-8 with input quoted in it, not terminated.
    const char *message;
    size_t message_length;
    /// Whether a whole table was left out of the tree, not only one key of it.
    int lost_table;
} natlab_toml_error;

/// A parsed file. Owns every pointer reachable from it.
typedef struct natlab_toml_document natlab_toml_document;

/// Parses `length` bytes. After an error of syntax the statement is left out and parsing goes on, so that
/// the tree holds the rest. The result is freed by natlab_toml_free.
natlab_toml_document *natlab_toml_parse(const uint8_t *_Nullable bytes, size_t length);

/// The nodes; the first is the root table. There are none after an error of kind REFUSED.
const natlab_toml_node *_Nullable natlab_toml_nodes(const natlab_toml_document *document, size_t *count);

/// The errors, in the order of the file.
const natlab_toml_error *_Nullable natlab_toml_errors(const natlab_toml_document *document, size_t *count);

void natlab_toml_free(natlab_toml_document *document);

#ifdef __cplusplus
}
#endif

#pragma clang assume_nonnull end
