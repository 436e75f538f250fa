package embedded

// inbox is an inbox with something pending. Many deliveries go to the same few, so that holding these in memory costs
// little, and what is taken need not be read from wherever in the database it is.
type inbox struct {
	url     string
	pending int
}

// inboxes are all inboxes with something pending, by URL.
type inboxes map[string]*inbox

// get returns an inbox for one more delivery, for which put is called in the end.
func (all inboxes) get(url string) *inbox {
	in := all[url]
	if in == nil {
		in = &inbox{url: url}
		all[url] = in
	}
	in.pending++
	return in
}

func (all inboxes) put(in *inbox) {
	if in.pending--; in.pending == 0 {
		delete(all, in.url)
	}
}
