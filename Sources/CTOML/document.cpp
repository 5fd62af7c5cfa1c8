#include "CTOML.h"

#define TOML_ENABLE_FORMATTERS 0
#include <toml++/impl/preprocessor.h>
// toml++ turns its assertions into promises to the optimiser under NDEBUG, and one of them ("a key begins with a key
// character") does not hold for `[=]`: without the promise the parser's own check reports it.
#undef TOML_ASSUME
#define TOML_ASSUME(...) static_assert(true)
// Its tables of blanks and letters promise that a case which `\u00e9 = 1` reaches is never reached. The answer for what
// is not in a table is no.
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE return false
#include <toml++/impl/forward_declarations.h>
#include <toml++/impl/unicode.h>
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE __builtin_unreachable()
#include <toml++/toml.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "scan.hpp"

using namespace std::string_view_literals;

static_assert(TOML_EXCEPTIONS == 0, "an exception must not cross into Swift");

namespace {

using Path = std::vector<std::string>;

natlab_toml_region region_of(const toml::source_region &source) {
    natlab_toml_region region{
        source.begin.line, source.begin.column, source.end.line, source.end.column};
    if (region.end_line < region.line || (region.end_line == region.line && region.end_column <= region.column)) {
        region.end_line = region.line;
        region.end_column = region.column + 1;
    }
    return region;
}

bool before(const natlab_toml_region &a, const natlab_toml_region &b) {
    return a.line != b.line ? a.line < b.line : a.column < b.column;
}

/// The keys of the only entry of a table, and of the only entry in that, with the region of the last key.
Path only_path(const toml::table &table, bool header, natlab_toml_region &last) {
    Path path;
    const toml::table *here = &table;
    while (here && here->size() == 1) {
        const auto entry = here->begin();  // lives as long as what it hands out
        path.emplace_back(entry->first.str());
        last = region_of(entry->first.source());
        const toml::node &value = entry->second;
        const toml::table *next = value.as_table();
        // The value of `a.b = {c = 1}` is no part of its key; in a header nothing is a value.
        here = next && (header || !next->is_inline()) ? next : nullptr;
    }
    return path;
}

/// Whether the region begins at the end of its line.
bool ends_line(const std::string &text, const natlab_toml_region &region) {
    size_t at = 0;
    for (uint32_t line = 1; line < region.line && at < text.size(); line++) at = text.find('\n', at) + 1;
    const size_t end = std::min(text.find('\n', at), text.size());
    return natlab::scalars(std::string_view(text).substr(at, end - at)) + 1 <= region.column + (end > at && text[end - 1] == '\r');
}

std::string joined(const Path &path) {
    std::string text;
    for (const auto &part : path) text += (text.empty() ? "" : ".") + part;
    return text;
}

}  // namespace

struct natlab_toml_document {
    std::vector<natlab_toml_node> nodes;
    std::vector<natlab_toml_error> errors;

    void read(std::string text);
    void refuse_size(size_t bytes) {
        add(NATLAB_TOML_REFUSED, {1, 1, 1, 2},
            "the file has " + std::to_string(bytes) + " bytes; the limit is " + std::to_string(NATLAB_TOML_MAX_BYTES));
    }

  private:
    // Keeps the strings that nodes and errors point into; a deque does not move them.
    std::deque<std::string> strings;
    std::vector<std::pair<size_t, Path>> duplicates;

    const std::string &keep(std::string text) { return strings.emplace_back(std::move(text)); }

    natlab_toml_error &add(natlab_toml_error_kind kind, natlab_toml_region region, std::string message) {
        const std::string &kept = keep(std::move(message));
        return errors.emplace_back(natlab_toml_error{kind, region, {}, kept.data(), kept.size(), 0});
    }

    void note(const toml::parse_error &error, const std::string &text, const std::vector<natlab::Statement> &all,
              size_t index);
    int32_t add(const toml::node &value);
    void find_first(const toml::table &root);
};

/// Adds the value and all below it; returns its index. Depth is bounded by the scan.
int32_t natlab_toml_document::add(const toml::node &value) {
    const auto index = static_cast<int32_t>(nodes.size());
    natlab_toml_node node{};
    node.first_child = node.next_sibling = -1;
    node.region = region_of(value.source());
    switch (value.type()) {
        case toml::node_type::table: node.kind = NATLAB_TOML_TABLE; break;
        case toml::node_type::array: node.kind = NATLAB_TOML_ARRAY; break;
        case toml::node_type::string: {
            node.kind = NATLAB_TOML_STRING;
            const std::string &kept = keep(value.as_string()->get());
            node.text = kept.data();
            node.text_length = kept.size();
            break;
        }
        case toml::node_type::integer:
            node.kind = NATLAB_TOML_INTEGER;
            node.integer = value.as_integer()->get();
            break;
        case toml::node_type::floating_point: node.kind = NATLAB_TOML_FLOAT; break;
        case toml::node_type::boolean:
            node.kind = NATLAB_TOML_BOOLEAN;
            node.integer = value.as_boolean()->get();
            break;
        default: node.kind = NATLAB_TOML_DATE_TIME; break;
    }
    nodes.push_back(node);

    int32_t previous = -1;
    const auto link = [&](int32_t child) {
        (previous < 0 ? nodes[static_cast<size_t>(index)].first_child
                      : nodes[static_cast<size_t>(previous)].next_sibling) = child;
        previous = child;
    };
    if (const toml::table *table = value.as_table()) {
        // The table sorts by name; people expect the order of their file.
        std::vector<std::pair<const toml::key *, const toml::node *>> entries;
        entries.reserve(table->size());
        for (auto &&[key, child] : *table) entries.emplace_back(&key, &child);
        std::stable_sort(entries.begin(), entries.end(), [](const auto &a, const auto &b) {
            return before(region_of(a.first->source()), region_of(b.first->source()));
        });
        for (const auto &[key, child] : entries) {
            const int32_t child_index = add(*child);
            auto &added = nodes[static_cast<size_t>(child_index)];
            const std::string &kept = keep(std::string(key->str()));
            added.key = kept.data();
            added.key_length = kept.size();
            added.key_region = region_of(key->source());
            link(child_index);
        }
    } else if (const toml::array *array = value.as_array()) {
        for (const toml::node &child : *array) link(add(child));
    }
    return index;
}

/// Records an error of the parser; `index` is the statement that it is in.
void natlab_toml_document::note(const toml::parse_error &error, const std::string &text,
                                const std::vector<natlab::Statement> &all, size_t index) {
    std::string message(error.description());
    constexpr auto lead = "Error while parsing "sv;
    if (message.compare(0, lead.size(), lead) == 0) message.erase(0, lead.size());
    natlab_toml_region region = region_of(error.source());
    if (message.rfind("string: unescaped control", 0) == 0 && ends_line(text, region)) {
        add(NATLAB_TOML_SYNTAX, region, "the string is not closed on its line");
        return;
    }

    if (message.find("cannot redefine existing") == std::string::npos || index >= all.size()) {
        add(NATLAB_TOML_SYNTAX, region, "not TOML: " + message);
        return;
    }
    // Parsed alone, the statement tells its own path and where its last key is.
    const natlab::Statement &statement = all[index];
    const auto alone = [&](const natlab::Statement &s) {
        return toml::parse(std::string_view(text).substr(s.begin, s.end - s.begin));
    };
    Path path;
    natlab_toml_region key{};
    if (auto parsed = alone(statement)) path = only_path(parsed.table(), statement.header, key);
    if (path.empty()) {
        add(NATLAB_TOML_SYNTAX, region, "not TOML: " + message);
        return;
    }
    const std::string name = joined(path);
    if (key.line == 1) {
        const size_t line_start = text.rfind('\n', statement.begin) + 1;  // npos + 1 is 0
        const uint32_t offset = natlab::scalars(
            std::string_view(text).substr(line_start, statement.begin - line_start));
        region = {statement.line, key.column + offset, statement.line, key.end_column + offset};
    }
    if (!statement.header) {
        for (size_t i = index; i-- > 0;) {
            if (!all[i].header) continue;
            natlab_toml_region unused{};
            if (auto parsed = alone(all[i])) {
                Path table = only_path(parsed.table(), true, unused);
                path.insert(path.begin(), table.begin(), table.end());
            }
            break;
        }
    }
    add(NATLAB_TOML_DUPLICATE, region,
        (statement.header ? "the table `" : "the key `") + name + "` is already defined");
    duplicates.emplace_back(errors.size() - 1, std::move(path));
}

/// Looks up where the duplicates are defined first.
void natlab_toml_document::find_first(const toml::table &root) {
    for (const auto &[error, path] : duplicates) {
        const toml::table *table = &root;
        const toml::key *key = nullptr;
        for (const auto &part : path) {
            if (!table) break;
            const auto found = table->find(part);
            if (found == table->end()) break;
            const toml::node &value = found->second;
            const toml::array *array = value.as_array();
            key = &found->first;
            table = array && !array->empty() ? array->back().as_table() : value.as_table();
        }
        if (!key) continue;
        errors[error].first = region_of(key->source());
        // A longer header may have mentioned the table before its own header defined it.
        if (table && !table->is_inline()) errors[error].first = region_of(table->source());
    }
}

void natlab_toml_document::read(std::string text) {
    const natlab::Scan scan = natlab::scan(text);
    if (scan.refusal) {
        add(NATLAB_TOML_REFUSED, scan.where, scan.refusal);
        return;
    }
    const auto &statements = scan.statements;
    while (true) {
        toml::parse_result result = toml::parse(std::string_view(text));
        if (result) {
            find_first(result.table());
            add(static_cast<const toml::node &>(result.table()));
            break;
        }
        const toml::parse_error &error = result.error();
        const natlab_toml_region region = region_of(error.source());
        // The first statement that does not end before the error; statements are in order.
        const size_t index = static_cast<size_t>(
            std::partition_point(statements.begin(), statements.end(),
                                 [&](const auto &s) { return s.last_line < region.line; })
            - statements.begin());
        const bool text_is_broken = error.description().find("utf-8") != std::string_view::npos;
        if (text_is_broken) {
            add(NATLAB_TOML_REFUSED, region, "the file is not UTF-8 text");
            break;
        }
        note(error, text, statements, index);
        if (errors.size() >= NATLAB_TOML_MAX_ERRORS || index >= statements.size()) {
            errors.back().lost_table = 1;
            break;
        }
        // Leave the statement out and go on; with a header goes what belongs to it, else that would land in the
        // table before. Blanks keep every other position as it is.
        size_t last = index;
        if (statements[index].header) {
            while (last + 1 < statements.size() && !statements[last + 1].header) last++;
            errors.back().lost_table = errors.back().kind != NATLAB_TOML_DUPLICATE;
        }
        // An error can lie in blanks already made only if the scan and toml++ disagree: then stop.
        bool changed = false;
        for (size_t i = statements[index].begin; i < statements[last].end; i++) {
            if (text[i] == '\n' || text[i] == '\r') continue;
            changed = changed || text[i] != ' ';
            text[i] = ' ';
        }
        if (!changed) {
            errors.back().lost_table = 1;
            break;
        }
    }
    std::stable_sort(errors.begin(), errors.end(),
                     [](const auto &a, const auto &b) { return before(a.region, b.region); });
}

natlab_toml_document *natlab_toml_parse(const uint8_t *bytes, size_t length) {
    auto *document = new natlab_toml_document();
    if (length > NATLAB_TOML_MAX_BYTES) {
        document->refuse_size(length);
    } else {
        // A copy: statements with errors are blanked in it.
        document->read(length == 0 ? std::string() : std::string(reinterpret_cast<const char *>(bytes), length));
    }
    return document;
}

const natlab_toml_node *natlab_toml_nodes(const natlab_toml_document *document, size_t *count) {
    *count = document->nodes.size();
    return document->nodes.data();
}

const natlab_toml_error *natlab_toml_errors(const natlab_toml_document *document, size_t *count) {
    *count = document->errors.size();
    return document->errors.data();
}

void natlab_toml_free(natlab_toml_document *document) { delete document; }
