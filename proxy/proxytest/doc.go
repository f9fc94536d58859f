// Package proxytest holds the test doubles of package proxy, as
// [net/http/httptest] does for package http: a buffered in-memory connection
// ([Pipe]) and [Listener], certificates ([CA]), a scriptable [Backend] on an
// in-memory [Network], and the runner of conversation transcripts ([Run]).
// All of it works inside [testing/synctest] bubbles, where time is virtual.
//
// # Transcripts
//
// A transcript is a txtar file that shows one rule in one conversation:
//
//	What the rule is, in a sentence. See RFC 9051, Section 6.1.3.
//
//	-- config --
//	listen: none
//	backend mail1: tls=none
//	route *: mail1
//	-- conversation --
//	[connect]
//	S: * OK [CAPABILITY …] IMAP server ready.
//	C: a1 LOGOUT
//	S: * BYE Logging out
//	S: a1 OK Logged out.
//	[closed C]
//	-- log --
//	info login user=alice
//
// # The conversation
//
// There are four speakers. Each line is sent, or expected, with CRLF behind it:
//
//	C: text     the client sends this
//	S: text     the proxy's next line to the client is exactly this
//	P: text     the proxy's next line to the backend is exactly this
//	B: text     the backend sends this
//
// In all four, base64("…") stands for the base64 form of the quoted string.
// SESSION stands for the session id that the proxy made up for this client. The
// tags that the proxy makes up are t1, t2 and so on, in the order in which they
// appear on a backend connection; in B lines they stand for the real tag.
// A line that begins with # is a comment.
//
// Everything else is an event in brackets. X is C or B:
//
//	[connect]                       a new client connects; it is the current one now
//	[connect from 192.0.2.7:4000]   from this address
//	[client 1], [backend 1]         an earlier client or backend connection is the current one again
//	[tls C]                         the client starts TLS; options: sni=NAME alpn=A,B
//	                                cert=USER (or USER,USER) max=1.2, resumed (the session must be), behind="text" (text and
//	                                ClientHello leave in one write), fails (the handshake must)
//	[tls B]                         the backend answers the proxy's ClientHello; options: sni=NAME
//	                                (which the proxy must have sent), cert=wrong-name|self-signed,
//	                                resumed, fails, behind="text" (text reaches the proxy with ServerHello)
//	[dial mail1]                    the proxy has dialled mail1, which accepts: the current backend now
//	[dial mail1 refused]            … which refuses
//	[dial mail1 hangs]              … which never answers
//	[dial mail1 within=33s]         any of these, after as much time as it takes, up to this
//	[eof X], [abort X], [close X]   that side ends its direction, resets, closes
//	[eof S], [eof P]                the proxy has ended its direction to the client, to the backend
//	[closed X]                      the proxy has closed that side
//	[closed X abruptly]             … without TLS's close_notify, or with a reset
//	[sleep 31s]                     virtual time passes
//	[raw C "a1 NO\x00" "x"*9000]    the client sends exactly these bytes; raw B likewise
//	[raw S "…"], [raw P "…"]        the proxy's next bytes are exactly these
//	[proxy v2 C FROM TO]            the client sends a PROXY protocol header, or: local; options:
//	                                authority=NAME tls=VERSION cipher=NAME cn=NAME verify=N
//	[proxy v2 P FROM TO]            the proxy's next bytes are this header, with these TLVs and no others
//	[shutdown 5s], [shutdown done]  Server.Shutdown begins, with this limit; it has returned
//	[reload key: value]             the configuration changes; the value none takes a backend or a
//	                                route away
//	[hold alice], [release alice]   an operator makes the user's logins wait; option: for=10s
//	[pin alice mail2], [unpin alice]
//	[drain mail1], [maint mail1], [ready mail1]
//	[kick alice], [kick backend=mail1], [kick]
//	                                an operator ends sessions; options: rate=0.5 spread=30s text="…" reason=move
//	[health mail1 down], [health mail1 up]
//	                                a check has found that out (the server's own watch learns nothing of it)
//	[sessions alice backend=mail1 count=2]
//	                                the server and the table count so many; all parts but count may be left out
//	[repeat 3] … [end]              all of this, three times
//	[nothing]                       the proxy has said nothing more
//
// Matching is exact: before each event or line that is not an expectation, and
// at the end, everything that the proxy said, dialled or closed must have been
// in the transcript. At the end the server is closed, and no goroutine may be
// left.
//
// # The configuration
//
// One setting a line, see [proxy.Config], [proxy.Listener] and [proxy.Backend]:
//
//	listen: implicit                # or starttls, none
//	address: 198.51.100.1:993       # of the listener
//	client: 192.0.2.1:40000         # of clients that connect from nowhere in particular
//	client_auth: request            # or require; with client_user: email (the default) or cn
//	proxy_from: 192.0.2.0/24
//	proxy_tls: yes
//	backend mail1: tls=starttls proxy=2 warm=4 pipelining=no max_logins=2 master=admin:secret
//	route alice@example.org: mail1 login=al
//	pool NAME: mail1,mail2 shared   # without shared a user's mail is on one member alone
//	route @example.com: NAME
//	route @example.org: mail1,mail2 # a shared pool in few words
//	route *: mail1
//	route bob: error                # the table cannot answer
//	mechanisms: PLAIN LOGIN
//	capabilities: IMAP4rev1 IDLE
//	id: name "My Proxy"
//	greeting, trusted, exempt, master_users, master_separator, default_domain,
//	case_sensitive, login_timeout, tls_timeout, backend_timeout, connect_timeout,
//	close_spread, affinity, max_failures, failure_delay, failure_delay_max
//	limits: connections=2 sessions_per_user=1
//	                                # the names are those of the configuration file
//	check: interval=30s timeout=5s rise=2 fall=3 user=NAME:PASSWORD
//	check mail1: interval=10s       # of one backend; probe: 30s is short for an interval
//
// The order in which a pool's members are written is the order for everybody; a
// backend is in one pool.
//
// # The log
//
// Each line names a log entry by level, message and some of its fields. The
// entries must appear in this order; others may be between them, but errors
// must all be listed.
package proxytest
