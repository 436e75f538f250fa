package config

// BenchCall is the arguments of the command Bench. Role is that of a process that another one started.
type BenchCall struct {
	Scenarios []string `name:"scenarios" type:"scenarios" placeholder:"NAMES" shown:"all" help:"what to measure"`
	Runs      int      `name:"runs" min:"1" max:"100" default:"1" placeholder:"N" help:"how many times; shows medians"`
	Nodes     int      `name:"nodes" min:"1" max:"64" default:"1" placeholder:"N" help:"how many nodes share the load, on Redis"`
	Short     bool     `name:"short" help:"measure less"`
	JSON      bool     `name:"json" help:"print JSON"`
	Plot      string   `name:"plot" type:"svg" placeholder:"FILE" help:"draw a picture to this file"`
	Tiny      bool     `name:"tiny" hidden:"" help:"measure as little as possible, for tests"`
	Role      string   `name:"role" hidden:""`
}

// BenchScenarios returns the names of the scenarios, in the order in which they are measured.
func BenchScenarios() []string {
	return []string{"keepalive", "connections", "tls", "world", "slow", "dead", "backlog", "fanout", "intake", "idle"}
}
