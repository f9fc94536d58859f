/*
Package proxy is the path of a connection: it accepts IMAP clients, reads as much
of their dialogue as is needed to know who they are, logs them in at the backend
where they live, and passes everything on from there.

# The path of a connection

	accept ─ PROXY header? ─ TLS ─ greeting ─ dialogue until credentials ─ route ─ dial, TLS, ID, login at the backend ─ splice ─ end
	server   proxyproto      tls   preauth    preauth, sasl                auth    backend, login, script               session, splice

[Server] accepts. Until the splice a connection is one goroutine, the conn, with
one absolute deadline (Config.LoginTimeout) that is lifted in one line, in
conn.splice. conn.run reads as the line above. After it the connection is a
session: two sockets, two directions, counters.

On Linux a session is parked after the answer to its login: it has no goroutine, no
buffer and no timer. There is one loop for each processor, with an epoll instance of
its own, and each session belongs to one of them. The loop waits for whatever comes
for any of its sessions and makes the steps of the direction that it comes for: read
what there is, write it to the other side, until reading would block. Nothing that a
loop does blocks: what a socket does not take is kept until it does, and until then
nothing more is read for it, while the other direction goes on. Several TLS records
go out with one system call. A session with a lot to pass on gives way to the others
after a few steps. Elsewhere, and for connections that are not TCP, a session has two
goroutines that make the same steps, with reads and writes that block.

What crypto/tls keeps for reading, up to 33 KiB for each connection, is lent to it
while a loop reads it; a silent connection has none.

	file           what it holds
	config.go      Config, Backend, Listener: what a server is told
	server.go      accept loops, the registry of connections and sessions; shutdown.go: their end
	conn.go        one client connection: run, replies, deadline, last words; stack.go: room for its handshake
	proxyproto.go  PROXY headers, in and out
	tls.go         the client's TLS, challenges of CAs; tuning of sockets
	handshake.go   whose TLS handshake is computed when many wait
	preauth.go     the commands before login
	capability.go  what is offered, and what the backends were heard to offer
	sasl.go        the client's side of each mechanism
	auth.go        who is it, where does he live, attempts and retries, the answer
	admit.go       how many logins a backend gets at a time
	backend.go     a connection to a backend until its capabilities
	warm.go        such connections, kept for the next logins
	login.go       the login there; script.go: how it is said
	session.go     a spliced pair; splice.go: its two directions; watch.go: commands that matter
	park_linux.go  how a session is parked; loop_linux.go: what serves it then; park_other.go: where neither is
	socket_linux.go, tlsmemory_linux.go  what is read and written there, without blocking
	sessions.go    the sessions there are, and ending them
	health.go      looks at backends: their health and capabilities; live.go: what is known of them
	limit.go       what clients may take up; admission.go: what they do take up
	overload.go    what happens when there is not enough of something
	failures.go    delays for failed logins; rejections.go: users who do not exist
	average.go     a mean of the last durations
	reply.go       replies; errors.go: failures and what the client is told
	metrics.go     where metrics hook in
	secret.go      credentials
	handover.go    what a process needs that goes on with another one's sessions
	trace.go       dialogues as people may see them; mask.go: without secrets; tracesession.go: names and sizes after it

# Goroutines and their owners

	goroutine                 owner                      ends
	accept loop               the caller of Serve        Serve's context, Shutdown, Close
	conn.serve                Server.wg                  with its connection
	loop.run                  Server.wg                  with the server, once it has no sessions
	session.finished          Server.wg                  when the end of a session is logged
	session.copy              session.run                with its session, where it cannot be parked
	watch on the backends     Server.wg                  Shutdown, Close; one goroutine a backend
	keeper of a stock         the watch on the backends  with a configuration; one goroutine a backend
	opening of a connection   the keeper of its stock    when it is open, or with a configuration
	end of a dead backend     Server.wg                  when its sessions are told, Shutdown, Close
	watch on the strain       Server.wg                  Shutdown, Close

# Timeouts

	TLSTimeout          one TLS handshake with a client, the wait for others included
	proxyHeaderTimeout  the arrival of a PROXY header
	LoginTimeout        from accept to login, in all
	ConnectTimeout      from connecting to a backend to its greeting
	BackendTimeout      from connecting to a backend to its tagged reply, retries included
	boundaryTimeout     from the end of a session to the next response boundary
	lingerTimeout       from a backend's end to the client's
	goodbyeTimeout      the writing of a last line
	warmAge             how long a connection to a backend waits for a login
	Check.Timeout       one look at a backend
	failureDelay        from a wrong password to its answer, within LoginTimeout
	deadAfter           from a backend's fall to the end of its sessions, which takes CloseSpread
	                    (Shutdown ends sessions over CloseSpread too, within its context's deadline)

# One user, one backend

A login holds a [route.Lease] from the routing decision until its session ends:
Begin says where, Claim announces an attempt at one backend, Commit makes a session
of it, End gives it back. The table refuses a Claim or a Commit while the user is
elsewhere, held or being moved, and the login then begins anew; so a user is never
on two backends, whatever races. Sessions at a backend that is down are ended when
their user comes back and another backend may serve him.

After an upgrade two processes have connections: the new one accepts, the old one
keeps its sessions and the clients that had connected. The new one decides, for both:
it counts the sessions of the old one as its own, and the old one asks it before each
Claim, and tells it of each end. See [route.Successor].

# Traces

[Server.Trace] shows the dialogue before logins. What is shown is put together from
words that are known and from lengths, never cut out of what was said, so that nothing
can be forgotten to be masked. Of the session that follows, names and sizes are shown. While nobody watches, a line costs one atomic load.

# Limits

A connection has a place from its accept to the end of its session, whatever becomes
of it; conn.serve or session.run gives it back, and nothing else. It counts for an
address as soon as that is known: behind a PROXY header, and anew when a trusted
proxy's ID tells another one. It counts for a user when the backend has accepted the
credentials. Under load accepts are slowed down, then the oldest connections without
a login go; sessions are never ended for it. An address that has too many displaces
its own oldest without a login, and nobody else's: where the PROXY header has yet to
tell the address, who makes room is found out after it. With ID it is too late for
that: the greeting comes first, and a trusted proxy need not send ID at all.

# Warm connections

A login that finds a connection with TLS, greeting and capabilities behind it costs one
round trip. Each backend has a stock of up to Backend.Warm of them, which follows the
rate of the logins and the time that opening one takes, and is empty a minute after the
last login. The oldest is taken first; one on which anything has come in is thrown away;
one that turns out to be closed before the backend has answered anything is replaced
at once, by a connection of the login's own, and is no failure of the backend. What has
carried a login, or a part of one, never comes back. Where ID goes before the login, a
backend that has not answered it within ConnectTimeout counts as one that has closed. A stock belongs to one configuration
of one backend: a reload, a verdict that the backend is down, and the end of the server close
it. Nothing about a client is known to such a connection, so that ID goes with the login
as ever, and backends that get a PROXY header have none.

# Storms

Handshakes are most of what a client costs. At most Config.Handshakes are computed at
the same time, each of them behind all goroutines that are ready to run: thousands of clients
who come back at once do not hold up those who are in. A place is never held while a
handshake waits for its client. Who has been answered once comes first, then the
oldest, and once the oldest has used up half of its time, the newest.

# Health

Each backend is looked at every Check.Interval: connect, TLS, greeting, capabilities,
and a login where a user for that is configured. It is down after Fall bad looks in
a row, or when two different clients could not be connected within half a minute,
and up again after Rise good ones; one client's trouble says nothing. When most of a
pool looks down at once it is rather this host that is cut off: the last state is
kept, and the log says so. A descriptor that is refused and a name server that does not
answer say nothing about a backend. A user whose backend is known to be down is answered
at once. The sessions of a backend that stays down are ended half a minute later, spread
over CloseSpread.

# Logins at a time

So many logins are under way at one backend as Backend.MaxLogins says; the others
wait in the order of their coming, within their budget, and are told UNAVAILABLE
when that is nearly spent. A backend that comes back, or is new, begins with 8, or
with a single one after more than half a minute, and each login that it answers
makes room for one more. Whoever waits goes to no other backend, unless this one is
found to be down.

# What a client is told

A failure is a replyError, which becomes a tagged response in reply.go alone. The
response code decides what a mail program does next (RFC 5530): on UNAVAILABLE it
waits, on AUTHENTICATIONFAILED it asks its user for another password. An outage
never looks like a wrong password.

	the backend says AUTHENTICATIONFAILED, NO without a code, or BAD   NO [AUTHENTICATIONFAILED]
	there is no such user                                              the same bytes, after a like delay
	the routing table cannot answer                                    NO [UNAVAILABLE]
	the backend cannot be reached, or the budget is spent              NO [UNAVAILABLE], after retries
	certificate, STARTTLS, LOGINDISABLED, loop, unknown backend        NO [SERVERBUG], and an error in the log
	another code of the backend                                        the code and its text
	the user has too many sessions                                     NO [LIMIT], when the password was right
	there is no room for the connection                                BYE [UNAVAILABLE]; nothing before TLS

# Log fields

	session            names the connection here and in the backend's log (x-session-id)
	listener           Listener.Name
	remote_ip          the client's address; stands before everything that a client chooses
	remote_port        its port
	tls                version of the client's TLS, "" for none
	mechanism          SASL mechanism; LOGIN-COMMAND for the LOGIN command
	user               normalised name, as it was looked up
	master             the master user who logs in for user
	backend            Backend.Name
	backend_address    Backend.Address
	route              reason of the routing decision
	result             how a login ended: ok, rejected, unknown_user, unavailable, …
	limit              the limit that was reached, as metrics call it
	lacks              what there is not enough of
	state              how far the connection or the login came: login/greeting
	reason             why a connection or a session ended
	error              what went wrong; never holds what a client or a backend said
	duration           seconds
	bytes_from_client, bytes_from_backend
*/
package proxy
