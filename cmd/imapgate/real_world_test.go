package main_test

import "testing"

// Accounts of the tests that need no special ones. Passwords are unlike any
// other text, so that a search of the log for them means something.
var (
	realAlice  = realAccount{Name: "alice@example.org", Password: "Xq7-alice-Vw2"}
	realBob    = realAccount{Name: "bob@example.org", Password: "Xq7-bob-Vw2"}
	realMaster = realAccount{Name: "proxymaster", Password: "Xq7-master-Vw2"}
)

const realTable = "alice@example.org mail1\nbob@example.org mail2\n"

// realWorld is imapgate with two Dovecots behind it: mail1, where alice lives
// and to which it speaks TLS from the start, and mail2, where bob lives and to
// which it says STARTTLS.
type realWorld struct {
	*realGate
	Mail1, Mail2 *realDovecot
}

// startRealWorld starts both Dovecots with one configuration; accounts are
// alice on the one and bob on the other, and cfg's on both.
func startRealWorld(t *testing.T, cfg realDovecotConfig, gate realGateConfig) *realWorld {
	t.Helper()
	if cfg.CA == nil {
		cfg.CA = newRealCA(t, "test")
	}
	common := cfg.Accounts
	w := &realWorld{}
	cfg.Accounts = append([]realAccount{realAlice}, common...)
	w.Mail1 = startRealDovecot(t, cfg)
	cfg.Accounts = append([]realAccount{realBob}, common...)
	w.Mail2 = startRealDovecot(t, cfg)

	gate.CA = cfg.CA
	if gate.Backends == nil {
		gate.Backends = realMap{}
	}
	for name, b := range map[string]realMap{
		"mail1": {"address": w.Mail1.IMAPS, "tls": "implicit"},
		"mail2": {"address": w.Mail2.IMAP, "tls": "starttls"},
	} {
		if gate.Backends[name] == nil {
			gate.Backends[name] = realBackend(cfg.CA, b)
		}
	}
	if gate.Table == "" {
		gate.Table = realTable
	}
	for _, a := range cfg.Accounts {
		gate.Secrets = append(gate.Secrets, a.Password)
	}
	gate.Secrets = append(gate.Secrets, realAlice.Password, realMaster.Password)
	w.realGate = startRealGate(t, gate)
	return w
}

// realBackend completes a backend's configuration. Connections come from
// another address than Dovecot's own: Dovecot takes equal ones for secure.
func realBackend(ca *realCA, b realMap) realMap {
	full := realMap{"source": "127.0.0.2", "tls_name": "localhost", "ca": ca.File}
	for key, value := range b {
		if value == nil {
			delete(full, key)
		} else {
			full[key] = value
		}
	}
	return full
}
