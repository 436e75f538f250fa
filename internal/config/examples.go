package config

// examples has command lines for the help of each command, by its path.
var examples = map[string][]string{
	"serve": {
		"postrider serve",
		"postrider serve --store embedded:/var/lib/postrider --user-agent 'Postrider (+https://app.example/)'",
		"postrider serve --store redis://localhost:6379 --master-key @/etc/postrider/master.key",
	},
	"demo": {"postrider demo", "postrider demo --exit"},
	"bench": {
		"postrider bench --short",
		"postrider bench --scenarios keepalive,intake --runs 3 --plot bench.svg",
	},
	"healthcheck": {"postrider healthcheck --listen 127.0.0.1:8080"},
	"keys": {
		"postrider keys list --url http://127.0.0.1:8080",
		"postrider keys add https://app.example/users/alice#main-key alice.pem",
	},
	"keys list":   {"postrider keys list", "postrider keys list --json"},
	"keys add":    {"postrider keys add https://app.example/users/alice#main-key alice.pem"},
	"keys remove": {"postrider keys remove https://app.example/users/alice#main-key"},
	"keys reseal": {"postrider keys reseal"},
	"relay": {
		"postrider relay --install print",
		"postrider relay --database-url postgres://app@localhost/app --url http://127.0.0.1:8080",
	},
	"send": {
		"postrider send https://one.example/inbox follow.json --key-id https://app.example/users/alice#main-key --key-file alice.pem",
	},
	"backup": {"postrider backup --store embedded:/var/lib/postrider postrider.db"},
	"migrate": {
		"postrider migrate --store embedded:/var/lib/postrider --to redis://localhost:6379",
	},
	"completion": {
		"source <(postrider completion bash)",
		"postrider completion bash > /etc/bash_completion.d/postrider",
		"postrider completion fish > ~/.config/fish/completions/postrider.fish",
	},
	"man":     {"postrider man | man -l -"},
	"version": {"postrider version"},
}
