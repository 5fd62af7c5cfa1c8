# shellcheck shell=bash disable=SC2154 # $work and $facts are scripts/bench's
# Figures: collecting, and printing them as a table, Markdown or JSON; sourced by scripts/bench.
#
# $work/figures has a line a figure: section, what, unit, budget (or -), the values (with spaces between), separated by tabs.

# figure SECTION WHAT UNIT BUDGET VALUE…
figure() {
    local section=$1 what=$2 unit=$3 budget=$4
    shift 4
    # An empty field between tabs would vanish in `read`: hence "-".
    [ $# -gt 0 ] || die "no value of '$section: $what' was measured"
    printf '%s\t%s\t%s\t%s\t%s\n' "$section" "$what" "$unit" "${budget:--}" "$*" >>"$work/figures"
}

# quotients "A…" "B…": A1/B1 A2/B2 …, one a round.
quotients() {
    awk -v a="$1" -v b="$2" 'BEGIN { n = split(a, x); split(b, y); for (i = 1; i <= n; i++) printf "%.6g ", x[i] / y[i] }'
}

# each_over N VALUE…: VALUE/N …
each_over() {
    local number=$1
    shift
    awk -v d="$number" -v a="$*" 'BEGIN { n = split(a, x); for (i = 1; i <= n; i++) printf "%.6g ", x[i] / d }'
}

# Adds to each figure its number of values, minimum, median and maximum.
summarised() {
    local section what unit budget values sorted
    while IFS=$'\t' read -r section what unit budget values; do
        # shellcheck disable=SC2086
        sorted=$(printf '%s\n' $values | sort -g | awk '
            { x[NR] = $1 }
            END { printf "%d\t%.6g\t%.6g\t%.6g", NR, x[1], (x[int((NR + 1) / 2)] + x[int(NR / 2) + 1]) / 2, x[NR] }')
        printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$section" "$what" "$unit" "$sorted" "$budget" "$values"
    done <"$work/figures"
}

number_format='
function f(x) {
    return x >= 100 ? sprintf("%.0f", x) : x >= 10 ? sprintf("%.1f", x) : sprintf("%.2f", x)
}
function rounds(n, values,    i, x, text) {
    if (n < 2) return ""
    if (n > 5) return n " values"
    split(values, x, " ")
    for (i = 1; i <= n; i++) text = text (i > 1 ? " " : "") f(x[i])
    return text
}
'

print_text() {
    printf '%s\n' "${facts[@]}"
    summarised | awk -F '\t' "$number_format"'
        BEGIN { printf "\n%-10s  %-44s %9s %9s %9s  %-11s  %-18s  %s\n", "section", "what", "min", "median", "max", "unit", "budget", "round by round" }
        $1 != before { if (before != "") print ""; before = $1 }
        { printf "%-10s  %-44s %9s %9s %9s  %-11s  %-18s  %s\n", $1, $2, f($5), f($6), f($7), $3, $8, rounds($4, $9) }' |
        sed 's/ *$//'
}

print_markdown() {
    printf -- '- %s\n' "${facts[@]}"
    summarised | awk -F '\t' "$number_format"'
        BEGIN { print "\n| section | what | min | median | max | unit | budget | round by round |\n|---|---|---:|---:|---:|---|---|---|" }
        { printf "| %s | %s | %s | %s | %s | %s | %s | %s |\n", $1, $2, f($5), f($6), f($7), $3, $8 == "-" ? "" : $8, rounds($4, $9) }'
}

print_json() {
    local facts_text
    facts_text=$(printf '%s\n' "${facts[@]}")
    summarised | jq -R -n --arg facts "$facts_text" '{
        facts: ($facts | split("\n")),
        figures: [inputs | split("\t") | {
            section: .[0], what: .[1], unit: .[2],
            min: (.[4] | tonumber), median: (.[5] | tonumber), max: (.[6] | tonumber),
            budget: (if .[7] == "-" then null else .[7] end),
            values: [.[8] | split(" ")[] | select(. != "") | tonumber]
        }]
    }'
}

# update_document FILE: puts the Markdown between the two marks in FILE.
update_document() {
    [ "$(grep -c -e '^<!-- bench: begin' -e '^<!-- bench: end' "$1")" -eq 2 ] ||
        die "$1 lacks the marks '<!-- bench: begin' and '<!-- bench: end'"
    print_markdown >"$work/markdown"
    awk -v new="$work/markdown" '
        /^<!-- bench: end/ { inside = 0 }
        !inside { print }
        /^<!-- bench: begin/ { inside = 1; while ((getline line < new) > 0) print line }' "$1" >"$work/document"
    cat "$work/document" >"$1"
}
