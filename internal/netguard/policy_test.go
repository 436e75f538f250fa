package netguard

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	public := []string{
		"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"169.253.255.255", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "198.17.255.255", "198.20.0.0",
		"223.255.255.255", "2001:200::1", "2606:4700:4700::1111", "2a00:1450::1", "3ffe:ffff::1",
		"::ffff:1.1.1.1", "64:ff9b::101:101",
	}
	for _, s := range public {
		if err := NewPolicy(nil).Check(netip.MustParseAddr(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	refused := map[string]string{ // address: range or other reason that the error must name
		"0.0.0.0":                 "0.0.0.0/8",
		"0.1.2.3":                 "0.0.0.0/8",
		"10.0.0.1":                "10.0.0.0/8",
		"100.64.0.0":              "100.64.0.0/10",
		"100.127.255.255":         "100.64.0.0/10",
		"127.0.0.1":               "127.0.0.0/8",
		"127.255.255.255":         "127.0.0.0/8",
		"168.63.129.16":           "168.63.129.16/32",
		"169.254.169.254":         "169.254.0.0/16",
		"172.16.0.0":              "172.16.0.0/12",
		"172.31.255.255":          "172.16.0.0/12",
		"192.0.0.8":               "192.0.0.0/24",
		"192.0.2.1":               "192.0.2.0/24",
		"192.31.196.1":            "192.31.196.0/24",
		"192.52.193.1":            "192.52.193.0/24",
		"192.88.99.1":             "192.88.99.0/24",
		"192.168.0.1":             "192.168.0.0/16",
		"192.175.48.1":            "192.175.48.0/24",
		"198.18.0.1":              "198.18.0.0/15",
		"198.19.255.255":          "198.18.0.0/15",
		"198.51.100.1":            "198.51.100.0/24",
		"203.0.113.1":             "203.0.113.0/24",
		"224.0.0.1":               "224.0.0.0/4",
		"239.255.255.255":         "224.0.0.0/4",
		"240.0.0.1":               "240.0.0.0/4",
		"255.255.255.255":         "broadcast",
		"::":                      "unspecified",
		"::1":                     "loopback",
		"::127.0.0.1":             "IPv4-compatible",
		"::1.1.1.1":               "IPv4-compatible",
		"::ffff:127.0.0.1":        "127.0.0.0/8",
		"::ffff:169.254.169.254":  "169.254.0.0/16",
		"::ffff:0:1.1.1.1":        "outside 2000::/3",
		"64:ff9b::7f00:1":         "127.0.0.0/8",
		"64:ff9b::a00:1":          "10.0.0.0/8",
		"64:ff9b:0:0:0:1:101:101": "outside 2000::/3",
		"64:ff9b:1::101:101":      "64:ff9b:1::/48",
		"100::1":                  "100::/64",
		"100:0:0:1::1":            "100:0:0:1::/64",
		"2001::1":                 "Teredo",
		"2001:2::1":               "benchmarking",
		"2001:10::1":              "ORCHID",
		"2001:20::1":              "ORCHIDv2",
		"2001:1ff::1":             "2001::/23",
		"2001:db8::1":             "2001:db8::/32",
		"2002:101:101::1":         "6to4",
		"2002:7f00:1::1":          "6to4",
		"2620:4f:8000::1":         "AS112",
		"3fff::1":                 "3fff::/20",
		"4000::1":                 "outside 2000::/3",
		"5f00::1":                 "segment routing",
		"fc00::1":                 "fc00::/7",
		"fd00:ec2::254":           "fc00::/7",
		"fe80::1":                 "fe80::/10",
		"fec0::1":                 "site-local",
		"ff02::1":                 "multicast",
		"2a00:1450::1%eth0":       "no plain IP address",
		"fe80::1%lo":              "no plain IP address",
	}
	for s, why := range refused {
		err := NewPolicy(nil).Check(netip.MustParseAddr(s))
		if !errors.Is(err, ErrPrivate) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: got %v, want a refusal that says %q", s, err, why)
		}
	}
	for _, p := range []*Policy{nil, {}, NewPolicy(nil)} {
		if err := p.Check(netip.Addr{}); !errors.Is(err, ErrPrivate) {
			t.Errorf("invalid address: got %v", err)
		}
		if err := p.Check(netip.MustParseAddr("10.0.0.1")); !errors.Is(err, ErrPrivate) {
			t.Errorf("private address: got %v", err)
		}
	}
}

func TestCheckAllowList(t *testing.T) {
	p := NewPolicy([]netip.Prefix{
		netip.MustParsePrefix("127.0.0.2/32"),
		netip.MustParsePrefix("::ffff:10.1.0.0/112"),
		netip.MustParsePrefix("fd12::/16"),
		netip.MustParsePrefix("fe80::/10"),
	})
	tests := []struct {
		addr string
		ok   bool
	}{
		{"127.0.0.2", true},
		{"::ffff:127.0.0.2", true},
		{"127.0.0.3", false},
		{"10.1.255.255", true},
		{"10.2.0.0", false},
		{"64:ff9b::a01:1", false}, // NAT64 of an address allowed as such
		{"::127.0.0.2", false},
		{"fd12::1", true},
		{"fd13::1", false},
		{"fe80::1", true},
		{"fe80::1%eth0", false},
		{"1.1.1.1", true},
	}
	for _, tt := range tests {
		if err := p.Check(netip.MustParseAddr(tt.addr)); (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want allowed: %t", tt.addr, err, tt.ok)
		}
	}
}

// TestDeny checks that denied addresses are refused though they are public, or allowed, however they are written.
func TestDeny(t *testing.T) {
	prefixes := func(texts ...string) (list []netip.Prefix) {
		for _, s := range texts {
			list = append(list, netip.MustParsePrefix(s))
		}
		return list
	}
	p := NewPolicy(prefixes("10.0.0.0/8"), prefixes("10.9.0.0/16", "2a01:64::/96", "11.1.0.0/16", "::ffff:12.0.0.0/104")...)
	for address, denied := range map[string]bool{
		"10.9.0.1": true, "10.8.0.1": false, "2a01:64::a00:1": true, "2a01:65::1": false, "11.1.2.3": true, "11.2.2.3": false,
		"::ffff:11.1.2.3": true, "64:ff9b::b01:203": true, "64:ff9b::b02:203": false, "12.0.0.1": true,
	} {
		err := p.Check(netip.MustParseAddr(address))
		if errors.Is(err, ErrPrivate) != denied || denied && !strings.Contains(err.Error(), "deny-addresses") {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, refusal := ParseInbox("https://11.1.2.3/inbox", false, p); refusal == nil || refusal.Reason != ReasonPrivateAddress {
		t.Errorf("an inbox at a denied address: %v", refusal)
	}
}
