package config

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMigrate(t *testing.T) {
	other := strings.Replace(goodKey, "+", "A", 1)
	for _, test := range []struct {
		args, environ []string
		prefix        string
		partitions    int
		keys          []Secret
	}{
		{[]string{"--to", "redis://h"}, nil, "postrider", 1, nil},
		{[]string{"--to", "redis+cluster://h", "--redis-prefix", "x", "--master-key", goodKey}, nil, "x", 64, mustKey(t, goodKey)},
		{nil, []string{"POSTRIDER_TO=redis://h", "POSTRIDER_TO_REDIS_PREFIX=y", "POSTRIDER_TO_REDIS_PARTITIONS=3",
			"POSTRIDER_TO_MASTER_KEY=" + other, "POSTRIDER_MASTER_KEY=" + goodKey}, "y", 3, mustKey(t, other)},
		{[]string{"--store", "redis://h/1", "--to", "redis://h/2", "--master-key", goodKey}, nil, "postrider", 1, mustKey(t, goodKey)},
		{[]string{"--store", "redis://h", "--to", "redis://h", "--to-redis-prefix", "y", "--master-key", goodKey}, nil, "y", 1, mustKey(t, goodKey)},
	} {
		c := mustParse(t, append([]string{"migrate"}, test.args...), test.environ...)
		want := Place{c.To.Store, test.prefix, test.partitions, test.keys}
		if diff := cmp.Diff(want, c.To, showSecrets); diff != "" || c.Command != Migrate || !c.To.Store.IsRedis() {
			t.Errorf("%q: %s", test.args, diff)
		}
	}
	for f := range reflect.TypeFor[Place]().Fields() {
		name := f.Tag.Get("name")
		if got := UnknownVariables([]string{variable(name) + "=x"}); len(got) > 0 {
			t.Errorf("%v is not known", got)
		}
		if _, err := parse(t, []string{"serve", "--" + name, "redis://h"}); err == nil {
			t.Errorf("serve takes --%s", name)
		}
		mustParse(t, []string{"serve"}, variable(name)+"=rubbish")
	}
}

func mustKey(t *testing.T, text string) []Secret {
	t.Helper()
	return mustParse(t, []string{"--master-key", text}).MasterKey
}

func TestMigrateRefuses(t *testing.T) {
	for _, test := range []struct {
		setting, value, accepted string
		args                     []string
	}{
		{"to", "", "embedded:DIR", nil},
		{"to", "embedded:x", "another store", []string{"--store=embedded:x", "--to=embedded:x"}},
		{"to", "redis://@h", "another store", []string{"--store=redis://u:hunter2@h", "--to=redis://u:hunter2@h", "--master-key", goodKey}},
		{"to", "[redacted]", "embedded:DIR", []string{"--to=mysql://:hunter2"}},
		{"to-redis-prefix", "a{b}", "letters", []string{"--to=redis://h", "--to-redis-prefix=a{b}"}},
		{"to-master-key", "[redacted]", "32 bytes", []string{"--to=redis://h", "--to-master-key=hunter2"}},
		{"master-key", "", "redis://@h", []string{"--store=redis://u:hunter2@h", "--to=embedded:x"}},
	} {
		_, err := parse(t, append([]string{"migrate"}, test.args...))
		usage, ok := errors.AsType[*UsageError](err)
		if !ok || usage.Setting != test.setting || usage.Value != test.value || !strings.Contains(usage.Accepted, test.accepted) ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", test.args, err)
		}
	}
}
