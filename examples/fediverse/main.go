// Fediverse is an app and the servers it writes to, in one process: it posts activities to a node until it is stopped, and
// plays the inboxes, some of them slow, failing, gone or dead. They verify every signature. The demo profile of
// docker-compose.yml runs it, and e2e/compose-check counts deliveries with it.
//
// SIGTERM ends it at once. At SIGINT it posts no more, waits until every healthy inbox has every activity that the node
// accepted, and ends with 0, or with 1 if that takes too long.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const patience = 2 * time.Minute // for accepted activities to arrive

func main() {
	log.SetFlags(0)
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	node := flag.String("node", "http://127.0.0.1:8080", "where the node's API is")
	flag.StringVar(&name, "name", name, "the name by which nodes find this machine")
	every := flag.Duration("every", 500*time.Millisecond, "time between activities")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *node, name, *every); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

// run posts until it is interrupted, and then waits until the accepted activities have arrived, or until ctx ends.
func run(ctx context.Context, node, name string, every time.Duration) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	w, err := startWorld(name, key.public())
	if err != nil {
		return err
	}
	defer w.close()
	a := newApp(node, firstToken(os.Getenv("POSTRIDER_API_TOKENS")))
	if err := a.putKey(ctx, key); err != nil {
		return err
	}
	posting, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	tick := time.Tick(every)
	printed := time.Now()
	for {
		select {
		case <-posting.Done():
			return settle(ctx, w)
		case <-tick:
		}
		id, err := a.post(posting, w.inboxes())
		if err != nil {
			log.Print("not accepted: ", err) // posting has ended, or the node refused the call
			continue
		}
		w.expect(id)
		if time.Since(printed) > time.Second {
			printed = time.Now()
			fmt.Println(w.tally())
		}
	}
}

// settle waits until the healthy inboxes have everything.
func settle(ctx context.Context, w *world) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.Tick(time.Second)
	for {
		t := w.tally()
		fmt.Println(t)
		if t.missing == 0 {
			return nil
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return errors.New("not everything has arrived")
		}
	}
}
