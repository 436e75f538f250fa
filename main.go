// Postrider delivers ActivityPub activities: it takes one activity and a list of inboxes over HTTP, stores them durably,
// signs them, and posts them to every inbox.
package main

import "github.com/postrider/postrider/internal/app"

func main() { app.Main() }
