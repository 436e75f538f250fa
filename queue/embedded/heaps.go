package embedded

// laneSet is a set to draw from at random.
type laneSet struct{ ls []*lane }

func (s *laneSet) add(l *lane) {
	l.pos, l.set = int32(len(s.ls)), s
	s.ls = append(s.ls, l)
}

func (s *laneSet) remove(l *lane) {
	last := s.ls[len(s.ls)-1]
	s.ls[l.pos], last.pos = last, l.pos
	s.ls[len(s.ls)-1] = nil
	s.ls = s.ls[:len(s.ls)-1]
	l.pos, l.set = -1, nil
}

// entryHeap is a heap of heads, by age or by due time and then age.
type entryHeap struct {
	es    []*entry
	byDue bool
}

func (h *entryHeap) Len() int { return len(h.es) }

func (h *entryHeap) Less(i, j int) bool {
	a, b := h.es[i], h.es[j]
	if h.byDue && a.due != b.due {
		return a.due < b.due
	}
	return a.id < b.id
}

func (h *entryHeap) Swap(i, j int) {
	h.es[i], h.es[j] = h.es[j], h.es[i]
	h.es[i].pos, h.es[j].pos = int32(i), int32(j)
}

func (h *entryHeap) Push(v any) {
	e := v.(*entry)
	e.pos = int32(len(h.es))
	h.es = append(h.es, e)
}

func (h *entryHeap) Pop() any {
	e := h.es[len(h.es)-1]
	h.es[len(h.es)-1] = nil
	h.es = h.es[:len(h.es)-1]
	e.pos = -1
	return e
}

// laneHeap is a heap of lanes by when they are due.
type laneHeap []*lane

func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = int32(i), int32(j)
}

func (h *laneHeap) Push(v any) {
	l := v.(*lane)
	l.pos = int32(len(*h))
	*h = append(*h, l)
}

func (h *laneHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	l.pos = -1
	return l
}
