package imap

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var announced = regexp.MustCompile(`\{([0-9]{1,21})\}$|\{([0-9]{1,20})\+\}$`)

// reference does what a Follower does the slow way: it takes the whole stream, looks at whole lines, and returns
// where responses end, and their first lines.
func reference(stream []byte, client bool) (ends []int, heads []string) {
	var lines []string // of the current response
	for pos := 0; pos < len(stream); {
		line, _, ok := strings.Cut(string(stream[pos:]), "\n")
		if !ok {
			break
		}
		pos += len(line) + 1
		line = strings.TrimSuffix(line, "\r")
		if lines = append(lines, line); len(lines) == 1 {
			heads = append(heads, line[:min(len(line), maxHead)])
		}
		m := announced.FindStringSubmatch(line)
		if m == nil || !client && isHumanText(lines) {
			ends = append(ends, pos)
			lines = nil
			continue
		}
		size, err := strconv.ParseUint(m[1]+m[2], 10, 64)
		if err != nil || size > uint64(len(stream)-pos) {
			break
		}
		pos += int(size)
	}
	return ends, heads
}

func isHumanText(lines []string) bool {
	tag, rest, _ := strings.Cut(lines[0], " ")
	name, text, ok := strings.Cut(rest, " ")
	switch strings.ToUpper(name) {
	case "OK", "NO", "BAD":
	case "BYE", "PREAUTH":
		ok = ok && tag == "*"
	default:
		ok = false
	}
	if strings.HasPrefix(tag, "+") {
		return true
	}
	return ok && (!strings.HasPrefix(text, "[") || strings.Contains(text+strings.Join(lines[1:], ""), "]"))
}

// referred is a stream with what the reference says of it.
type referred struct {
	stream []byte
	client bool
	ends   []int
	heads  []string
}

func refer(stream []byte, client bool) referred {
	ends, heads := reference(stream, client)
	return referred{stream, client, ends, heads}
}

// follow feeds a stream to a Follower in pieces that end at cuts, and compares what it says with the reference.
func (r referred) follow(tb testing.TB, cuts ...int) {
	tb.Helper()
	stream, client, ends, wantHeads := r.stream, r.client, r.ends, r.heads
	var heads []string
	f := Follower{Client: client, OnLine: func(head []byte) { heads = append(heads, string(head)) }}
	quiet := Follower{Client: client}
	start := 0
	for _, cut := range append(cuts, len(stream)) {
		want := -1
		if i, found := slices.BinarySearch(ends, cut); found {
			want = cut
		} else if i > 0 && ends[i-1] > start {
			want = ends[i-1]
		}
		if want <= start {
			want = -1
		}
		got := f.Advance(stream[start:cut])
		if got >= 0 {
			got += start
		}
		if got != want {
			tb.Fatalf("%q, bytes %d to %d of cuts %v: boundary %d, want %d", stream, start, cut, cuts, got, want)
		}
		_, at := slices.BinarySearch(ends, cut)
		if at = at || cut == 0; f.AtBoundary() != at {
			tb.Fatalf("%q, at %d of cuts %v: AtBoundary is %v", stream, cut, cuts, !at)
		}
		if b := quiet.Advance(stream[start:cut]); b >= 0 && b+start != want || b < 0 && want >= 0 {
			tb.Fatalf("%q, bytes %d to %d of cuts %v: boundary %d without OnLine, want %d", stream, start, cut, cuts, b, want)
		}
		start = cut
	}
	if !slices.Equal(heads, wantHeads) {
		tb.Fatalf("%q, cuts %v: first lines %q, want %q", stream, cuts, heads, wantHeads)
	}
}

// followEverywhere feeds a stream whole, byte by byte, and in two pieces cut at every offset.
func followEverywhere(tb testing.TB, stream []byte) {
	tb.Helper()
	every := make([]int, len(stream))
	for i := range every {
		every[i] = i
	}
	for _, client := range []bool{false, true} {
		r := refer(stream, client)
		r.follow(tb)
		r.follow(tb, every...)
		for _, cut := range every {
			r.follow(tb, cut)
		}
	}
}

// followerTests are used as seeds for fuzzing too. The parts are what a backend's stream consists of.
var followerTests = [][]string{
	{},
	{"\r\n", "\n", "\r\r\n"},
	{"* OK ready\r\n", "* 1 EXISTS\r\n", "x OK done\n"},
	{"* 1 FETCH (BODY[] {5}\r\nab\r\n) FLAGS ())\r\n", "x OK done\r\n"},
	{"* 1 FETCH (BODY[] {5}\nab\r\n) FLAGS ())\n", "x OK done\n"},
	{"* 1 FETCH (BODY[] {0}\r\n)\r\n", "* 2 FETCH (BODY[] {00000000000000000000}\r\n)\r\n"},
	{"* 1 FETCH (BODY[1] {3+}\r\n\r\n\n BODY[2] {3}\r\n{3} {1}\r\nx)\r\n", "* 2 FETCH (BINARY[1] ~{4}\r\n\x00\r\n\x00)\r\n"},
	{"* 1 FETCH (BODY[] {3}\r\nabc{2}\r\nde{1}\r\nf)\r\n"},
	{"* LIST () \"/\" {11}\r\n* OK text\r\n\r\n", "+ idling\r\n"},
	{"* OK a message of {5}\r\n", "* NO {5}\r\n", "* BAD {5}\r\n", "* BYE {5}\r\n", "* PREAUTH {5}\r\n", "x OK {5}\r\n", "x NO {5+}\r\n", "x bad {5}\r\n", "* ok {5}\r\n"},
	{"x BYE {2}\r\nab\r\n", "x PREAUTH {2}\r\nab\r\n", "** BYE {2}\r\nab\r\n"},
	{"* OKAY {2}\r\nab\r\n", "* PREAUTHX {2}\r\nab\r\n", "* O {2}\r\nab\r\n", "* {2}\r\nab\r\n", "*{2}\r\nab\r\n", "{2}\r\nab\r\n", "* OK{2}\r\nab\r\n"},
	{"+ {5}\r\n", "+{5}\r\n", "+ idling {5+}\r\n", "+\r\n"},
	{"* OK [ALERT] text {5}\r\n", "x NO [BADCHARSET (UTF-8)] {5}\r\n", "* OK [] {5}\r\n", "* OK []{5}\r\n"},
	{"* OK [X {3}\r\na]b] text {5}\r\n", "x NO [BADCHARSET ({3}\r\na\r\n {2+}\r\n]])] text {5}\r\n", "x NO [{1}\r\n] {1}\r\n]] {1}\r\n"},
	{"* OK [unclosed\r\n", "* OK text [not a code {5}\r\n", "* OK  [X {5}\r\n"},
	{"* 1 FETCH {2}\r\nab OK {2}\r\nab {2}\r\nab\r\n", "x {2}\r\nab NO {2}\r\nab x\r\n"},
	{"* X {-1}\r\n", "* X {}\r\n", "* X { 5}\r\n", "* X {5 }\r\n", "* X {5}x\r\n", "* X {5} \r\n", "* X 5}\r\n", "* X {+}\r\n", "* X {5++}\r\n", "}\r\n", "{\r\n", "+}\r\n"},
	{"* X {5}\r\r\n", "* X {5\r}\r\n"},
	{"* X {00000000000000000003}\r\nabc\r\n", "* X {00000000000000000003+}\r\nabc\r\n", "* X {000000000000000000003+}\r\n", "* X {0000000000000000000003}\r\n"},
	{strings.Repeat("w", 127) + "\rw\r\n", strings.Repeat("x", 127) + "\r\n", strings.Repeat("y", 128) + "\r\n", strings.Repeat("z", 129) + "\r\n", strings.Repeat("t", 200) + " OK {5}\r\n"},
	{"* CAPABILITY " + strings.Repeat("X", 300) + " {3}\r\nabc\r\n"},
}

func TestFollower(t *testing.T) {
	for _, parts := range followerTests {
		stream := []byte(strings.Join(parts, ""))
		ends, _ := reference(stream, false)
		var want []int
		n := 0
		for _, part := range parts {
			n += len(part)
			want = append(want, n)
		}
		if !slices.Equal(ends, want) {
			t.Errorf("%q: the reference parser sees ends at %v, want %v", stream, ends, want)
		}
		followEverywhere(t, stream)
	}
}

func TestFollowerKnowsUnfinishedResponses(t *testing.T) {
	for _, input := range []string{
		"x", "* OK", "* OK text\r", "* 1 FETCH (BODY[] {5}\r\n", "* 1 FETCH (BODY[] {5}\r\nabcde", "* 1 FETCH (BODY[] {0}\r\n",
		"* X {18446744073709551615}\r\nab\r\n", "* X {18446744073709551616}\r\nab\r\n", "* X {99999999999999999999+}\r\nab\r\n", "* X {999999999999999999999}\r\nab\r\n",
	} {
		var f Follower
		if !f.AtBoundary() {
			t.Error("the zero value is not at a boundary")
		}
		stream := "* OK before\r\n" + input
		if got := f.Advance([]byte(stream)); got != len(stream)-len(input) || f.AtBoundary() {
			t.Errorf("%q: boundary %d, AtBoundary %v", input, got, f.AtBoundary())
		}
		if got := f.Advance(nil); got != -1 || f.AtBoundary() {
			t.Errorf("%q: nothing more: boundary %d, AtBoundary %v", input, got, f.AtBoundary())
		}
		followEverywhere(t, []byte(stream))
	}
}

func TestFollowerOfAClientTakesNoLineForText(t *testing.T) {
	f := Follower{Client: true}
	if got := f.Advance([]byte("x OK {3+}\r\na\r\n")); got != -1 {
		t.Errorf("boundary %d inside of a literal", got)
	}
	if got := f.Advance([]byte("\r\ny UNAUTHENTICATE\r\n")); got != 20 {
		t.Errorf("boundary %d", got)
	}
}

// Streams put together at random from what matters find what a table forgets.
func TestFollowerAgreesWithTheReference(t *testing.T) {
	words := []string{
		"* ", "x ", "+ ", "+", "* ", "OK ", "NO ", "BYE ", "bad ", "PREAUTH ", "FETCH ", "[", "]", "[ALERT] ", " ", "abc", "(", ")", "\"", "1 ",
		"{3}", "{0}", "{12}", "{3+}", "~{2}", "{", "}", "+}", "{5} ", "{3}\r\n", "{2+}\r\n", "{7}\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\x00",
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var b bytes.Buffer
		for range rng.IntN(25) {
			b.WriteString(words[rng.IntN(len(words))])
		}
		followEverywhere(t, b.Bytes())
	}
}

// A spliced stream of many responses, in pieces as reads give them.
func TestFollowerInALargeStream(t *testing.T) {
	stream := session(300, 5000)
	rng := rand.New(rand.NewPCG(3, 4))
	for _, most := range []int{10, 100, 1000, 32 << 10} {
		var cuts []int
		for at := rng.IntN(most); at < len(stream); at += 1 + rng.IntN(most) {
			cuts = append(cuts, at)
		}
		refer(stream, false).follow(t, cuts...)
	}
}

// session returns what a backend sends: n messages of size octets, and status responses between them.
func session(n, size int) []byte {
	var b bytes.Buffer
	body := strings.Repeat("The quick brown fox jumps over the lazy dog {3}\r\n", size/49+1)[:size]
	for i := range n {
		fmt.Fprintf(&b, "* %d FETCH (UID %d FLAGS (\\Seen) BODY[] {%d}\r\n%s)\r\n", i, i, size, body)
		if i%10 == 9 {
			fmt.Fprintf(&b, "* %d EXISTS\r\nA%d OK [HIGHESTMODSEQ 715194045007] Fetch completed (0.001 + 0.000 secs).\r\n", n, i)
		}
	}
	return b.Bytes()
}

func TestFollowerDoesNotAllocate(t *testing.T) {
	stream := session(20, 100)
	calls := 0
	f := Follower{OnLine: func([]byte) { calls++ }}
	if n := testing.AllocsPerRun(10, func() {
		for i := 0; i < len(stream); i += 7 {
			f.Advance(stream[i:min(i+7, len(stream))])
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if diff := cmp.Diff(11*24, calls); diff != "" { // AllocsPerRun runs once more
		t.Error(diff)
	}
}

func BenchmarkFollower(b *testing.B) {
	flags := bytes.Repeat([]byte("* 1234 FETCH (UID 12345 FLAGS (\\Seen \\Answered))\r\n"), 2000)
	status := bytes.Repeat([]byte("* OK [HIGHESTMODSEQ 715194045007] Highest\r\n"), 2000)
	for _, bench := range []struct {
		name   string
		stream []byte
		onLine func([]byte)
	}{
		{"messages", session(100, 20000), nil},
		{"flags", flags, nil},
		{"flags with OnLine", flags, func([]byte) {}},
		{"status", status, nil},
	} {
		b.Run(bench.name, func(b *testing.B) {
			f := Follower{OnLine: bench.onLine}
			const chunk = 16 << 10
			b.SetBytes(int64(len(bench.stream)))
			b.ReportAllocs()
			for b.Loop() {
				for i := 0; i < len(bench.stream); i += chunk {
					f.Advance(bench.stream[i:min(i+chunk, len(bench.stream))])
				}
			}
		})
	}
}
