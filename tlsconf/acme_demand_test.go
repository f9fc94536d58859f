package tlsconf_test

import (
	"testing"
	"time"

	"imapgate/tlsconf"
)

func TestOrdersOnDemandAreBounded(t *testing.T) {
	take := tlsconf.Bucket(3, time.Minute)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, step := range []struct {
		after time.Duration
		want  int // that are taken, of five
	}{
		{0, 3}, {59 * time.Second, 0}, {time.Second, 1}, {2 * time.Minute, 2}, {24 * time.Hour, 3}, {0, 0},
	} {
		now = now.Add(step.after)
		taken := 0
		for range 5 {
			if take(now) {
				taken++
			}
		}
		if taken != step.want {
			t.Errorf("at %s %d are taken, want %d", now.Format(time.TimeOnly), taken, step.want)
		}
	}
}
