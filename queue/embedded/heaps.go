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
	l.set = nil
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
