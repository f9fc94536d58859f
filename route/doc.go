// Package route knows who lives where: it answers which backend serves a user.
//
// A [Table] holds backends, pools of backends, and rows that send users and
// domains to one of them. It is loaded as a whole, from a [Definition] (backends
// and pools, from the configuration) and from [Rows] (from files, see
// package imapgate/route/source, or from anywhere else):
//
//	table := route.New()
//	rows, err := route.Parse("users.map", file)
//	…
//	err = table.Load(definition, rows, false)
//	…
//	placement, err := table.Lookup(names.Key("Alice@Example.org"))
//
// # Generations
//
// A load builds a new database in one write transaction and puts it in the place
// of the old one with one atomic store. A lookup takes one snapshot of one
// database, so it sees all of a load or nothing. Whatever is wrong with a load
// (a mistake in a row, a file that was cut, too many rows gone) leaves the table
// in force as it is.
//
// # Order of a lookup
//
// The steps are those of the [Reason] constants, and the first that finds a row
// decides: the user's own row; the row of the user's domain, then of each parent
// domain (x.y.example.org, y.example.org, example.org, org); the default. Pins
// and assignments, which come before them, are made while the proxy runs.
//
// A row's target is a backend (the user's mail is there and nowhere else) or a
// pool, which spreads its users over its members by weighted rendezvous hashing
// of the user's hash slot, one of 2^18: the same users go to the same member in
// every proxy and after every restart, a member that joins N others takes 1/(N+1)
// of the users of each and moves nobody else, and with 50 members each has its
// share by weight to within 5 % of it.
//
// # State
//
// What happens while a table is in force is in its [State]: health of backends
// as checks find it; admin states, weights, pins and holds as people set them;
// and assignments, which say where users have sessions. It outlives reloads, and
// what people set outlives the process, in a file.
//
// A login takes a [Lease], and with it the steps that keep a user on one backend
// whatever happens at the same time:
//
//	lease, err := table.Begin(key)
//	…
//	defer lease.End()
//	for _, backend := range lease.Placement().Backends {
//		if !lease.Claim(ctx, backend) {
//			… // the user is elsewhere: end the lease, begin anew
//		}
//		… // log in at the backend; the next one if it does not answer
//		if !lease.Commit(backend) {
//			… // too late: close the connection, end the lease, begin anew
//		}
//		… // the session
//	}
//
// Each step is one short critical section, and so is the part of a lookup that asks
// where the user has sessions. The rest of a lookup takes no lock: it reads snapshots,
// and a [State] publishes what is known of backends as one value that is replaced as a
// whole.
//
// # Who serves whom
//
//	                ready  drain              maint  down
//	shared pool     yes    users with         no     no, the next by rank
//	                       sessions there
//	other targets   yes    users with         no     no
//	                       sessions there
//	pin             yes    yes                no     no
//
// No is an [UnavailableError] when nobody else may serve the user. A user with
// sessions on a backend that serves nobody any more gets another when they are
// ended, and not before. After the last session a user of a shared pool stays
// with the backend for the affinity of the [Definition], as long as it is ready
// and up.
//
// # Names
//
// Keys are normalised once, at the edge, by [Names]. Targets are names of the
// configuration and match exactly.
package route
