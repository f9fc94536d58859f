// Package source brings the rows of a routing table from where they are kept.
//
// A [Source] is one such place; [File] is a file in the text form of package
// imapgate/route. A [Set] is all the sources of one table: it reads them, loads
// the table, and loads it again when one of them changes. Whatever goes wrong on
// the way leaves the table in force as it is.
//
//	table := route.New()
//	set := source.NewSet(table)
//	err := set.Load(ctx, definition, []source.Source{source.NewFile("users.map")}, false)
//	…
//	err = set.Watch(ctx, func(r source.Result) { … }) // until ctx ends
package source
