//go:build !unix

package bench

// resources knows no way here: CPU and memory are shown as none.
func resources() usage { return usage{} }
