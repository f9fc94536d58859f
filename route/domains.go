package route

// HasDomain says whether the table has a row for exactly this domain, in the form
// that [Names.Key] makes of one. It is false before the first load.
func (t *Table) HasDomain(domain string) bool {
	gen := t.current.Load()
	if gen == nil || domain == "" {
		return false
	}
	_, found, err := gen.find(gen.db.Txn(false), tableDomains, domain)
	return err == nil && found
}
