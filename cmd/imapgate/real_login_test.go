package main_test

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"hash"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestRealUsersReachTheirOwnDovecotByName(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	for _, user := range []struct {
		account realAccount
		home    *realDovecot
		other   *realDovecot
	}{
		{realAlice, w.Mail1, w.Mail2},
		{realBob, w.Mail2, w.Mail1},
	} {
		for port, dial := range map[string]func(*testing.T) *realConn{"implicit": w.Dial, "starttls": w.DialSTARTTLS, "clear": w.DialClear} {
			t.Run(port+" "+user.account.Name, func(t *testing.T) {
				subject := port + "-" + user.account.Name
				c := dial(t)
				c.Login(user.account)
				c.Append(subject)
				c.Logout()

				// Dovecot itself, asked without the proxy, has the mail.
				direct := dialRealFrom(t, user.home.IMAP, "127.0.0.2")
				direct.Login(user.account)
				if found := direct.Search(subject); len(found) != 1 {
					t.Errorf("mails: %q", found)
				}
				direct.Logout()
				if strings.Contains(user.other.Log(t), user.account.Name) {
					t.Errorf("the other Dovecot has heard of %s", user.account.Name)
				}
			})
		}
	}
}

func TestRealEveryPasswordMechanismLogsInAtDovecot(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	w.WaitMechanism(t, "LOGIN")
	a := realAlice
	plain := realPlain("", a.Name, a.Password)
	for name, dialogue := range map[string]func(c *realConn){
		"LOGIN command": func(c *realConn) {
			c.OK("LOGIN " + a.Name + " " + a.Password)
		},
		"login command in lower case": func(c *realConn) {
			c.OK("login " + strings.ToUpper(a.Name) + " \"" + a.Password + "\"")
		},
		"PLAIN with an initial response": func(c *realConn) {
			c.OK("AUTHENTICATE PLAIN " + plain)
		},
		"PLAIN without an initial response": func(c *realConn) {
			tag := c.Tag()
			c.Send(tag + " authenticate plain\r\n")
			if text := c.Continue(); text != "" {
				c.t.Errorf("challenge %q", text)
			}
			c.Send(plain + "\r\n")
			c.Until(tag + " OK")
		},
		"PLAIN with the same authzid": func(c *realConn) {
			c.OK("AUTHENTICATE PLAIN " + realPlain(a.Name, a.Name, a.Password))
		},
		"LOGIN mechanism": func(c *realConn) {
			tag := c.Tag()
			c.Send(tag + " AUTHENTICATE LOGIN\r\n")
			c.Continue()
			c.Send(realBase64(a.Name) + "\r\n")
			c.Continue()
			c.Send(realBase64(a.Password) + "\r\n")
			c.Until(tag + " OK")
		},
		"LOGIN mechanism with an initial response": func(c *realConn) {
			tag := c.Tag()
			c.Send(tag + " AUTHENTICATE LOGIN " + realBase64(a.Name) + "\r\n")
			c.Continue()
			c.Send(realBase64(a.Password) + "\r\n")
			c.Until(tag + " OK")
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.Dial(t)
			dialogue(c)
			c.OK("SELECT INBOX")
			c.Logout()
		})
	}
}

func TestRealSCRAMIsRelayedEndToEnd(t *testing.T) {
	t.Parallel()
	hashed := realAccount{Name: "hashed@example.org", Password: "Xq7-hashed-Vw2"}
	out, err := exec.Command(realTool(t, "doveadm"), "pw", "-s", "SCRAM-SHA-256", "-p", hashed.Password).Output()
	if err != nil {
		t.Fatal(err)
	}
	hashed.Hash = strings.TrimSpace(string(out))
	w := startRealWorld(t,
		realDovecotConfig{Mechanisms: "plain scram-sha-1 scram-sha-256", Accounts: []realAccount{hashed}},
		realGateConfig{
			Default: "mail2",
			Login:   realMap{"mechanisms": []string{"PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"}},
		})
	w.WaitMechanism(t, "SCRAM-SHA-256")

	for _, test := range []struct {
		name, mechanism string
		hash            func() hash.Hash
		account         realAccount
		initial         bool
	}{
		{"SCRAM-SHA-1", "SCRAM-SHA-1", sha1.New, realAlice, true},
		{"SCRAM-SHA-256", "SCRAM-SHA-256", sha256.New, realBob, true},
		{"SCRAM-SHA-256 without an initial response", "SCRAM-SHA-256", sha256.New, realAlice, false},
		{"SCRAM-SHA-256 and a server without the password", "SCRAM-SHA-256", sha256.New, hashed, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := w.Dial(t)
			// The wrong password first: the connection lives on.
			wrong := test.account
			wrong.Password += "x"
			tag := realSCRAMDialogue(c, test.mechanism, &realSCRAM{Hash: test.hash, User: wrong.Name, Password: wrong.Password}, test.initial)
			c.Expect(tag + " NO [AUTHENTICATIONFAILED]")

			client := &realSCRAM{Hash: test.hash, User: test.account.Name, Password: test.account.Password}
			tag = realSCRAMDialogue(c, test.mechanism, client, test.initial)
			final, err := base64.StdEncoding.DecodeString(c.Continue())
			if err != nil {
				t.Fatal(err)
			}
			if err := client.Verify(string(final)); err != nil {
				t.Error(err)
			}
			c.Send("\r\n")
			c.Until(tag + " OK")
			c.OK("SELECT INBOX")
			c.Logout()
		})
	}
	w.Mail2.WaitLog(t, `Login: user=<bob@example.org>, method=SCRAM-SHA-256,`)
}

// realSCRAMDialogue runs an exchange up to the client's proof.
func realSCRAMDialogue(c *realConn, mechanism string, client *realSCRAM, initial bool) (tag string) {
	c.t.Helper()
	tag = c.Tag()
	if initial {
		c.Send(tag + " AUTHENTICATE " + mechanism + " " + realBase64(client.First()) + "\r\n")
	} else {
		c.Send(tag + " AUTHENTICATE " + mechanism + "\r\n")
		c.Continue()
		c.Send(realBase64(client.First()) + "\r\n")
	}
	serverFirst, err := base64.StdEncoding.DecodeString(c.Continue())
	if err != nil {
		c.t.Fatal(err)
	}
	final, err := client.Final(string(serverFirst))
	if err != nil {
		c.t.Fatal(err)
	}
	c.Send(realBase64(final) + "\r\n")
	return tag
}

// startRealOAuth answers for the tokens that it is given, as an authorization
// server's introspection endpoint does.
func startRealOAuth(t *testing.T, users map[string]string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		w.Header().Set("Content-Type", "application/json")
		email, ok := users[token]
		if err := json.NewEncoder(w).Encode(realMap{"active": ok, "email": email}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL + "/introspect"
}

func TestRealOAuthTokensLogInAtDovecot(t *testing.T) {
	t.Parallel()
	const token = "Xq7.token_of-alice~Vw2"
	w := startRealWorld(t,
		realDovecotConfig{
			Mechanisms: "plain xoauth2 oauthbearer",
			OAuth:      startRealOAuth(t, map[string]string{token: realAlice.Name}),
		},
		realGateConfig{
			Login:   realMap{"mechanisms": []string{"PLAIN", "XOAUTH2", "OAUTHBEARER"}},
			Secrets: []string{token},
		})
	w.WaitMechanism(t, "OAUTHBEARER")
	w.WaitMechanism(t, "XOAUTH2")
	host, port, _ := net.SplitHostPort(w.TLS)
	for _, mechanism := range []struct {
		name    string
		message func(token string) string
		abort   string // what the client says to the error, in base64
	}{
		{"XOAUTH2", func(token string) string {
			return "user=" + realAlice.Name + "\x01auth=Bearer " + token + "\x01\x01"
		}, ""},
		{"OAUTHBEARER", func(token string) string {
			return "n,a=" + realAlice.Name + ",\x01host=" + host + "\x01port=" + port + "\x01auth=Bearer " + token + "\x01\x01"
		}, "AQ=="},
	} {
		t.Run(mechanism.name, func(t *testing.T) {
			c := w.Dial(t)

			// See RFC 7628, Section 3.2.3: a refusal comes as a challenge first.
			tag := c.Tag()
			c.Send(tag + " AUTHENTICATE " + mechanism.name + " " + realBase64(mechanism.message("wrong")) + "\r\n")
			challenge, err := base64.StdEncoding.DecodeString(c.Continue())
			if err != nil || !strings.Contains(string(challenge), `"status"`) {
				t.Errorf("challenge %q, %v", challenge, err)
			}
			c.Send(mechanism.abort + "\r\n")
			c.Until(tag + " NO [AUTHENTICATIONFAILED]")

			c.OK("AUTHENTICATE " + mechanism.name + " " + realBase64(mechanism.message(token)))
			c.OK("SELECT INBOX")
			c.Logout()

			c = w.DialSTARTTLS(t)
			tag = c.Tag()
			c.Send(tag + " AUTHENTICATE " + mechanism.name + "\r\n")
			c.Continue()
			c.Send(realBase64(mechanism.message(token)) + "\r\n")
			c.Until(tag + " OK")
			c.Logout()
			w.Mail1.WaitLog(t, "Login: user=<alice@example.org>, method="+mechanism.name)
		})
	}
}

func TestRealClientCertificateLogsInThroughTheMasterUser(t *testing.T) {
	t.Parallel()
	ca := newRealCA(t, "test")
	clients := newRealCA(t, "clients")
	passwordFile := filepath.Join(clients.dir, "master")
	writeRealFile(t, passwordFile, realMaster.Password+"\n")
	master := realMap{"user": realMaster.Name, "password_file": passwordFile}
	d := startRealDovecot(t, realDovecotConfig{CA: ca, Accounts: []realAccount{realAlice, realBob}, Masters: []realAccount{realMaster}})
	g := startRealGate(t, realGateConfig{
		CA: ca,
		Backends: realMap{
			"mail1": realBackend(ca, realMap{"address": d.IMAPS, "tls": "implicit", "master": master}),
			"mail2": realBackend(ca, realMap{"address": d.IMAP, "tls": "starttls", "master": master}),
		},
		Table: realTable,
		Listen: []realMap{
			{"tls": "implicit", "client_auth": "request", "client_ca": clients.File, "client_user": "email"},
		},
		Login:   realMap{"mechanisms": []string{"PLAIN", "EXTERNAL"}},
		Secrets: []string{realMaster.Password, realAlice.Password},
	})
	for i, account := range []realAccount{realAlice, realBob} {
		cfg := g.tlsConfig()
		cfg.Certificates = []tls.Certificate{clients.Client(t, "client", account.Name).Load(t)}
		for name, args := range map[string]string{"empty": " =", "authzid": " " + realBase64(account.Name), "continuation": ""} {
			t.Run(account.Name+" "+name, func(t *testing.T) {
				c := dialRealTLS(t, g.More[0], cfg)
				if !strings.Contains(c.Greeting, "AUTH=EXTERNAL") {
					t.Errorf("greeting: %q", c.Greeting)
				}
				tag := c.Tag()
				c.Send(tag + " AUTHENTICATE EXTERNAL" + args + "\r\n")
				if args == "" {
					c.Continue()
					c.Send("\r\n")
				}
				c.Until(tag + " OK")
				c.OK("SELECT INBOX")
				c.Logout()
				d.WaitLog(t, "Login: user=<"+account.Name+">, method=PLAIN")
			})
		}
		t.Run(account.Name+" claims to be someone else", func(t *testing.T) {
			c := dialRealTLS(t, g.More[0], cfg)
			other := []realAccount{realBob, realAlice}[i]
			if _, tagged := c.Command("AUTHENTICATE EXTERNAL " + realBase64(other.Name)); !strings.HasPrefix(tagged, "NO [AUTHORIZATIONFAILED]") {
				t.Errorf("got %q", tagged)
			}
			c.Logout()
		})
		t.Run(account.Name+" has a password too", func(t *testing.T) {
			c := dialRealTLS(t, g.More[0], cfg)
			wrong := realPlain("", account.Name, realMaster.Password)
			if _, tagged := c.Command("AUTHENTICATE PLAIN " + wrong); !strings.HasPrefix(tagged, "NO [AUTHENTICATIONFAILED]") {
				t.Errorf("got %q", tagged)
			}
			c.Login(account)
			c.Logout()
		})
	}
	t.Run("without a certificate", func(t *testing.T) {
		c := dialRealTLS(t, g.More[0], g.tlsConfig())
		if strings.Contains(c.Greeting, "EXTERNAL") {
			t.Errorf("greeting: %q", c.Greeting)
		}
		if _, tagged := c.Command("AUTHENTICATE EXTERNAL " + realBase64(realAlice.Name)); !strings.HasPrefix(tagged, "NO [") {
			t.Errorf("got %q", tagged)
		}
		c.Logout()
	})
}
