// Sink is an inbox to try a node with: it accepts every POST, prints it as it came, and answers 202, or 410 under /gone.
// It verifies nothing, stores nothing, and listens on loopback only.
package main

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httputil"
	"strings"
)

func main() {
	const address = "127.0.0.1:8081"
	fmt.Printf("waiting for activities at http://%s\n\n", address)
	log.Fatal(http.ListenAndServe(address, http.HandlerFunc(take))) //nolint:gosec // on loopback, it needs no time-outs
}

func take(w http.ResponseWriter, r *http.Request) {
	request, err := httputil.DumpRequest(r, true)
	if err != nil { // the body broke off
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Printf("%s\n\n", request)
	if strings.HasPrefix(r.URL.Path, "/gone") {
		w.WriteHeader(http.StatusGone)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}
