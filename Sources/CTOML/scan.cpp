#include "scan.hpp"

namespace natlab {

uint32_t scalars(std::string_view text) {
    uint32_t count = 0;
    for (char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    return count;
}

namespace {

struct Scanner {
    std::string_view text;
    Scan result;
    size_t at = 0;
    size_t line_start = 0;
    uint32_t line = 1;
    uint32_t depth = 0;
    uint32_t key_parts = 1;

    bool starts(std::string_view what) const { return text.compare(at, what.size(), what) == 0; }

    void refuse(const char *why) {
        if (result.refusal) return;
        result.refusal = why;
        uint32_t column = scalars(text.substr(line_start, at - line_start)) + 1;
        result.where = {line, column, line, column + 1};
    }

    void step() {
        if (text[at] == '\n') {
            line++;
            line_start = at + 1;
        }
        at++;
    }

    /// Past a string that begins here. A one-line string that is not closed ends with its line.
    void skip_string() {
        const char quote = text[at];
        const std::string_view triple = quote == '"' ? R"(""")" : "'''";
        if (starts(triple)) {
            at += 3;
            while (at < text.size() && !starts(triple)) {
                if (quote == '"' && text[at] == '\\' && at + 1 < text.size()) step();
                step();
            }
            // Up to two more quotes belong to the string's end: """"a""""" is "a"".
            for (int i = 0; i < 5 && at < text.size() && text[at] == quote; i++) at++;
            return;
        }
        at++;
        while (at < text.size() && text[at] != quote && text[at] != '\n') {
            if (quote == '"' && text[at] == '\\' && at + 1 < text.size() && text[at + 1] != '\n') at++;
            at++;
        }
        if (at < text.size() && text[at] == quote) at++;
    }

    void statement() {
        Statement s;
        s.begin = at;
        s.line = line;
        s.header = text[at] == '[';
        depth = 0;
        key_parts = 1;
        while (at < text.size() && !result.refusal) {
            const char c = text[at];
            // A header never goes on in the next line, even when its brackets are open.
            if (c == '\n' && (depth == 0 || s.header)) break;
            if (c == '"' || c == '\'') {
                skip_string();
                continue;
            }
            if (c == '#') {
                while (at < text.size() && text[at] != '\n') at++;
                continue;
            }
            if (c == '.') {
                if (++key_parts > NATLAB_TOML_MAX_KEY_PARTS) refuse("a dotted key has more than 16 parts");
            } else if (c == '[' || c == '{') {
                key_parts = 1;
                if (++depth > NATLAB_TOML_MAX_NESTING) refuse("values are nested more than 32 deep");
            } else if (c == ']' || c == '}') {
                key_parts = 1;
                if (depth > 0) depth--;
            } else if (c == ',' || c == '=') {
                key_parts = 1;
            }
            step();
        }
        s.end = at;
        s.last_line = line;
        result.statements.push_back(s);
    }

    void run() {
        while (at < text.size() && !result.refusal) {
            const char c = text[at];
            if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
                step();
            } else if (c == '#') {
                while (at < text.size() && text[at] != '\n') at++;
            } else {
                statement();
            }
        }
    }
};

}  // namespace

Scan scan(std::string_view text) {
    Scanner scanner;
    scanner.text = text;
    scanner.run();
    return std::move(scanner.result);
}

}  // namespace natlab
