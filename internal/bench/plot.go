package bench

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// bar is one bar of a plot, of consecutive parts.
type bar struct {
	label string
	parts []float64 // milliseconds
}

// The plot's measures, in pixels.
const (
	plotWidth  = 760
	plotLeft   = 190
	plotRight  = 90 // for the sum
	barHeight  = 20
	barPitch   = 26
	plotTop    = 56
	plotBottom = 20
)

// plot draws the CPU of a delivery in each scenario, beside bare loops, as SVG.
func (r *Report) plot() string {
	bars := r.bars()
	most := 0.0
	for _, b := range bars {
		most = max(most, sum(b.parts))
	}
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="13">`+"\n",
		plotWidth, plotTop+len(bars)*barPitch+plotBottom)
	fmt.Fprintln(&svg, `<rect width="100%" height="100%" fill="#fff"/>`)
	text(&svg, 10, 20, "", "CPU for each delivery, milliseconds: node and its store")
	text(&svg, 10, 40, `fill="#555"`, fmt.Sprintf("%s, %d cores, signing %s, %s", r.Machine.CPU, r.Machine.Cores, r.Machine.Signing, r.Machine.Store))
	for i, b := range bars {
		y := plotTop + i*barPitch
		text(&svg, plotLeft-8, y+barHeight-5, `text-anchor="end"`, b.label)
		x := float64(plotLeft)
		for n, part := range b.parts {
			width := part / most * (plotWidth - plotLeft - plotRight)
			fmt.Fprintf(&svg, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", x, y, width, barHeight, colour(b, n))
			x += width
		}
		text(&svg, int(x)+6, y+barHeight-5, "", fmt.Sprintf("%.3f", sum(b.parts)))
	}
	fmt.Fprintln(&svg, "</svg>")
	return svg.String()
}

// colour returns the colour of the node, the store, or a bare loop.
func colour(b bar, part int) string {
	if len(b.parts) == 1 {
		return "#b9b9b9"
	}
	return []string{"#1f6f8b", "#e0a030"}[part]
}

func text(svg *strings.Builder, x, y int, attributes, s string) {
	fmt.Fprintf(svg, `<text x="%d" y="%d" %s>`, x, y, attributes)
	_ = xml.EscapeText(svg, []byte(s)) // a Builder never fails
	fmt.Fprintln(svg, "</text>")
}

func sum(values []float64) (s float64) {
	for _, v := range values {
		s += v
	}
	return s
}

// bars returns the bars of all scenarios that were measured for each delivery.
func (r *Report) bars() (bars []bar) {
	for _, s := range r.Scenarios {
		if _, ok := s.Figures["node_cpu_ms"]; !ok {
			continue
		}
		bars = append(bars, bar{s.Name, []float64{s.Figures["node_cpu_ms"], s.Figures["store_cpu_ms"]}})
		for _, backend := range []string{"go", "openssl"} {
			if ms, ok := s.Figures["bare_"+backend+"_cpu_ms"]; ok {
				bars = append(bars, bar{"bare loop, " + backend, []float64{ms}})
			}
		}
	}
	return bars
}
