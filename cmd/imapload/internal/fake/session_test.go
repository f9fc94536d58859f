//go:build linux

package fake

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSessionAnswers feeds commands in one piece and byte by byte.
func TestSessionAnswers(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"login", "a LOGIN u p\r\n", "a" + loggedIn},
		{"lower case", "a login u p\r\n", "a" + loggedIn},
		{"initial response", "a AUTHENTICATE PLAIN AHUAcA==\r\n", "a" + loggedIn},
		{"no initial response", "a AUTHENTICATE PLAIN\r\nAHUAcA==\r\n", "+ \r\na" + loggedIn},
		{"literals", "a LOGIN {1}\r\nu {1+}\r\np\r\n", "+ OK\r\na" + loggedIn},
		{"a literal that looks like a command", "a APPEND INBOX {8}\r\nb NOOP\r\n\r\nc NOOP\r\n", "+ OK\r\na OK [APPENDUID 1 2] Append completed.\r\nc OK done.\r\n"},
		{"mail", "a APPEND INBOX {5000+}\r\n" + strings.Repeat("x\r\n..", 1000) + "\r\nb NOOP\r\n", "a OK [APPENDUID 1 2] Append completed.\r\nb OK done.\r\n"},
		{"size and mail", "a SELECT BODY-7\r\nb FETCH 1 BODY[]\r\n", selectReply + "a OK [READ-WRITE] Select completed.\r\n* 1 FETCH (BODY[] {7}\r\n<7>)\r\nb OK Fetch completed.\r\n"},
		{"idle", "a IDLE\r\nDONE\r\nb NOOP\r\n", "+ idling\r\na OK Idle completed.\r\nb OK done.\r\n"},
		{"id and login in one piece", "a ID NIL\r\nb LOGIN u p\r\n", "* ID NIL\r\na OK done.\r\nb" + loggedIn},
		{"no command", "a\r\n", "* BAD no command\r\n"},
		{"nothing behind logout", "a LOGOUT\r\nb NOOP\r\n", "* BYE Logging out.\r\na OK done.\r\n"},
	} {
		for _, piece := range []int{len(test.in), 1} {
			var s session
			var got strings.Builder
			for in := test.in; len(in) > 0 && !s.bye; in = in[min(piece, len(in)):] {
				for left := []byte(in[:min(piece, len(in))]); len(left) > 0 && !s.bye; {
					used, replies, body := s.feed(left, nil)
					left = left[used:]
					got.Write(replies)
					if body >= 0 {
						got.WriteString("<" + string(rune('0'+body)) + ">")
						got.Write(s.fetched(nil))
					}
				}
			}
			if diff := cmp.Diff(test.want, got.String()); diff != "" {
				t.Errorf("%s, in pieces of %d (-want +got):\n%s", test.name, piece, diff)
			}
		}
	}
}
