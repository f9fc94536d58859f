package imap

import (
	"strings"
	"testing"
)

func TestQuotable(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, "abc": true, `"\`: true, "\t\x7f": true,
		"\x00": false, "a\r": false, "\nb": false, "\u00e9": false, "\xff": false,
	} {
		if got := Quotable([]byte(s)); got != want {
			t.Errorf("Quotable(%q) = %v", s, got)
		}
	}
}

func TestAppendQuoted(t *testing.T) {
	for s, want := range map[string]string{
		"": `x""`, "abc": `x"abc"`, `a"b\c`: `x"a\"b\\c"`, "\u00e9": "x\"\u00e9\"",
		"a\r\nb LOGOUT\x00": `x"ab LOGOUT"`,
	} {
		if got := string(AppendQuoted([]byte("x"), []byte(s))); got != want {
			t.Errorf("AppendQuoted(%q) = %s, want %s", s, got, want)
		}
	}
}

func TestAppendID(t *testing.T) {
	tests := []struct {
		pairs []Pair
		want  string
	}{
		{nil, "NIL"},
		{[]Pair{}, "NIL"},
		{[]Pair{{Key: "name", Value: "x"}}, `("name" "x")`},
		{[]Pair{{Key: "name", Value: "x"}, {Key: "k", Nil: true}, {Key: "", Value: ""}}, `("name" "x" "k" NIL "" "")`},
		{[]Pair{{Key: `a"b`, Value: `\` + "\r\n\x00"}}, `("a\"b" "\\")`},
		{[]Pair{{Key: "k", Value: "x\") \r\nb LOGOUT\r\n"}}, `("k" "x\") b LOGOUT")`},
		{[]Pair{{Key: "k", Value: "\u00fc\tz"}}, "(\"k\" \"??\tz\")"},
		{[]Pair{{Key: strings.Repeat("k", 40), Value: strings.Repeat(`"`, 1200)}}, `("` + strings.Repeat("k", 30) + `" "` + strings.Repeat(`\"`, 1000) + `")`},
	}
	for _, test := range tests {
		if got := string(AppendID(nil, test.pairs)); got != test.want {
			t.Errorf("AppendID(%.60v) = %s, want %s", test.pairs, got, test.want)
		}
	}
}
