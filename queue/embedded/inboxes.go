package embedded

// inbox is an inbox with pending deliveries. Many deliveries go to the same few inboxes, so it costs little memory to hold them,
// and Take need not read them from the database.
type inbox struct {
	url     string
	id      uint32 // while something pends; another may have it afterwards
	pending int32
}

// inboxes are all inboxes with pending deliveries.
type inboxes struct {
	byURL map[string]*inbox
	last  uint32   // the greatest id ever given
	free  []uint32 // ids that were given back
}

// get returns an inbox for one more delivery, for which put is called in the end.
func (all *inboxes) get(url string) *inbox {
	in := all.byURL[url]
	if in == nil {
		in = &inbox{url: url, id: all.newID()}
		all.byURL[url] = in
	}
	in.pending++
	return in
}

func (all *inboxes) put(in *inbox) {
	if in.pending--; in.pending == 0 {
		delete(all.byURL, in.url)
		all.free = append(all.free, in.id)
	}
}

func (all *inboxes) newID() uint32 {
	if n := len(all.free) - 1; n >= 0 {
		id := all.free[n]
		all.free = all.free[:n]
		return id
	}
	all.last++
	return all.last
}
