package app

import (
	"bytes"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/postrider/postrider/internal/config"
)

const kubernetesDir = "deploy/kubernetes"

// The types here have the members that the manifests use, by the names of the Kubernetes API. A
// misspelled one is in none.

type labels map[string]string

type selector struct {
	MatchLabels labels `yaml:"matchLabels"`
}

type manifest[T any] struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name   string
		Labels labels
	}
	Spec T
}

type deployment struct {
	Selector selector
	Strategy struct {
		Type          string
		RollingUpdate struct {
			MaxSurge       int `yaml:"maxSurge"`
			MaxUnavailable int `yaml:"maxUnavailable"`
		} `yaml:"rollingUpdate"`
	}
	Template struct {
		Metadata struct{ Labels labels }
		Spec     pod
	}
}

type pod struct {
	AutomountServiceAccountToken  *bool `yaml:"automountServiceAccountToken"`
	EnableServiceLinks            *bool `yaml:"enableServiceLinks"`
	TerminationGracePeriodSeconds int   `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               struct {
		RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
		RunAsUser      int                   `yaml:"runAsUser"`
		RunAsGroup     int                   `yaml:"runAsGroup"`
		SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	TopologySpreadConstraints []struct {
		MaxSkew           int      `yaml:"maxSkew"`
		TopologyKey       string   `yaml:"topologyKey"`
		WhenUnsatisfiable string   `yaml:"whenUnsatisfiable"`
		LabelSelector     selector `yaml:"labelSelector"`
	} `yaml:"topologySpreadConstraints"`
	Containers []container
}

type container struct {
	Name, Image string
	EnvFrom     []struct {
		SecretRef struct{ Name string } `yaml:"secretRef"`
	} `yaml:"envFrom"`
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	LivenessProbe  probe `yaml:"livenessProbe"`
	ReadinessProbe probe `yaml:"readinessProbe"`
	Lifecycle      struct {
		PreStop struct {
			Exec struct{ Command []string }
		} `yaml:"preStop"`
	}
	Resources       struct{ Requests, Limits map[string]string }
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct{ Drop []string }
	} `yaml:"securityContext"`
}

type probe struct {
	HTTPGet          struct{ Path, Port string } `yaml:"httpGet"`
	PeriodSeconds    int                         `yaml:"periodSeconds"`
	TimeoutSeconds   int                         `yaml:"timeoutSeconds"`
	FailureThreshold int                         `yaml:"failureThreshold"`
}

type frontend struct {
	Selector labels
	Ports    []struct {
		Name       string
		Port       int
		TargetPort string `yaml:"targetPort"`
	}
}

type disruptionBudget struct {
	MaxUnavailable int `yaml:"maxUnavailable"`
	Selector       selector
}

type autoscaler struct {
	ScaleTargetRef struct {
		APIVersion string `yaml:"apiVersion"`
		Kind, Name string
	} `yaml:"scaleTargetRef"`
	MinReplicas int `yaml:"minReplicas"`
	MaxReplicas int `yaml:"maxReplicas"`
	Metrics     []struct {
		Type     string
		External struct {
			Metric struct{ Name string }
			Target scaleTarget
		}
		Resource struct {
			Name   string
			Target scaleTarget
		}
	}
	Behavior struct {
		ScaleDown struct {
			StabilizationWindowSeconds int `yaml:"stabilizationWindowSeconds"`
		} `yaml:"scaleDown"`
	}
}

type scaleTarget struct {
	Type               string
	AverageValue       string `yaml:"averageValue"`
	AverageUtilization int    `yaml:"averageUtilization"`
}

type kustomization struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Resources  []string
	Images     []struct {
		Name    string
		NewName string `yaml:"newName"`
		NewTag  string `yaml:"newTag"`
	}
}

// readManifest reads a manifest of a kind. A member that its type does not have is an error.
func readManifest[T any](t *testing.T, file, apiVersion, kind string) (m manifest[T]) {
	t.Helper()
	readStrict(t, path.Join(kubernetesDir, file), &m)
	if m.APIVersion != apiVersion || m.Kind != kind || m.Metadata.Name != "postrider" {
		t.Errorf("%s is %s %s %s", file, m.APIVersion, m.Kind, m.Metadata.Name)
	}
	return m
}

func readStrict(t *testing.T, file string, into any) {
	t.Helper()
	text, err := fs.ReadFile(repository, file)
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func readDeployment(t *testing.T) (deployment, container) {
	t.Helper()
	d := readManifest[deployment](t, "deployment.yaml", "apps/v1", "Deployment").Spec
	if len(d.Template.Spec.Containers) != 1 {
		t.Fatalf("%d containers", len(d.Template.Spec.Containers))
	}
	return d, d.Template.Spec.Containers[0]
}

func TestKubernetesFiles(t *testing.T) {
	var k kustomization
	readStrict(t, path.Join(kubernetesDir, "kustomization.yaml"), &k)
	files, err := fs.Glob(repository, path.Join(kubernetesDir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := append([]string{"kustomization.yaml"}, k.Resources...)
	slices.Sort(want)
	for i := range files {
		files[i] = path.Base(files[i])
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("resources (-) and files (+):\n%s", diff)
	}
	if _, c := readDeployment(t); k.Images[0].Name != c.Image {
		t.Errorf("the image %s is set, and the container has %s", k.Images[0].Name, c.Image)
	}
}

// TestKubernetesSelectors checks that every selector finds the pods.
func TestKubernetesSelectors(t *testing.T) {
	d, _ := readDeployment(t)
	pods := d.Template.Metadata.Labels
	for name, selected := range map[string]labels{
		"Deployment":          d.Selector.MatchLabels,
		"topology":            d.Template.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels,
		"Service":             readManifest[frontend](t, "service.yaml", "v1", "Service").Spec.Selector,
		"PodDisruptionBudget": readManifest[disruptionBudget](t, "poddisruptionbudget.yaml", "policy/v1", "PodDisruptionBudget").Spec.Selector.MatchLabels,
	} {
		if len(selected) == 0 || !maps.Equal(selected, pods) {
			t.Errorf("%s selects %v, and the pods have %v", name, selected, pods)
		}
	}
}

// TestKubernetesPorts checks that the service and the probes reach the port on which the image listens, and paths that are
// served without a token.
func TestKubernetesPorts(t *testing.T) {
	_, c := readDeployment(t)
	port := c.Ports[0]
	if !strings.Contains(uncommented(t, "Dockerfile"), "POSTRIDER_LISTEN=0.0.0.0:"+strconv.Itoa(port.ContainerPort)+" ") {
		t.Errorf("the image does not listen on %d", port.ContainerPort)
	}
	if s := readManifest[frontend](t, "service.yaml", "v1", "Service").Spec.Ports[0]; s.TargetPort != port.Name {
		t.Errorf("the service sends to %s, the container has %s", s.TargetPort, port.Name)
	}
	for _, p := range []probe{c.LivenessProbe, c.ReadinessProbe} {
		if _, served := apiDocument(t).Paths[p.HTTPGet.Path]["get"]; !served || p.HTTPGet.Port != port.Name {
			t.Errorf("a probe asks %s of %s", p.HTTPGet.Path, p.HTTPGet.Port)
		}
	}
	if c.LivenessProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
		t.Error("a node whose store is away would be restarted, or get calls")
	}
	if got := time.Duration(c.ReadinessProbe.TimeoutSeconds) * time.Second; got < healthTimeout {
		t.Errorf("the readiness probe waits for %s, a node for its store nearly %s", got, healthTimeout)
	}
}

// TestKubernetesGivesNodesTime checks that a node is not killed before its own time-out for stopping.
func TestKubernetesGivesNodesTime(t *testing.T) {
	d, c := readDeployment(t)
	none := func(string) (string, bool) { return "", false }
	cfg, err := config.Parse(nil, none, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	command := c.Lifecycle.PreStop.Exec.Command
	pause, err := strconv.Atoi(command[len(command)-1])
	if err != nil || command[0] != "sleep" {
		t.Fatalf("before a stop: %q", command)
	}
	wantTimeToStop(t, (time.Duration(d.Template.Spec.TerminationGracePeriodSeconds-pause) * time.Second).String(), cfg)
}

// TestKubernetesRights checks that the node has no rights that it does not need, and no settings but its own.
func TestKubernetesRights(t *testing.T) {
	d, c := readDeployment(t)
	p := d.Template.Spec
	off := func(b *bool) bool { return b != nil && !*b }
	if !off(p.AutomountServiceAccountToken) || !off(p.EnableServiceLinks) || !off(c.SecurityContext.AllowPrivilegeEscalation) ||
		!p.SecurityContext.RunAsNonRoot || p.SecurityContext.SeccompProfile.Type != "RuntimeDefault" ||
		!c.SecurityContext.ReadOnlyRootFilesystem || !slices.Equal(c.SecurityContext.Capabilities.Drop, []string{"ALL"}) {
		t.Errorf("the pod may do more than it needs: %+v, %+v", p.SecurityContext, c.SecurityContext)
	}
	user := strconv.Itoa(p.SecurityContext.RunAsUser) + ":" + strconv.Itoa(p.SecurityContext.RunAsGroup)
	if !strings.Contains(uncommented(t, "Dockerfile"), "USER "+user+"\n") {
		t.Errorf("the image has no user %s", user)
	}
}

// TestKubernetesScaling checks that the autoscaler scales the nodes by a metric that they serve, and that one may be away.
func TestKubernetesScaling(t *testing.T) {
	a := readManifest[autoscaler](t, "horizontalpodautoscaler.yaml", "autoscaling/v2", "HorizontalPodAutoscaler").Spec
	if ref := a.ScaleTargetRef; ref.APIVersion != "apps/v1" || ref.Kind != "Deployment" || ref.Name != "postrider" {
		t.Errorf("it scales %+v", ref)
	}
	budget := readManifest[disruptionBudget](t, "poddisruptionbudget.yaml", "policy/v1", "PodDisruptionBudget").Spec
	if a.MinReplicas <= budget.MaxUnavailable || a.MaxReplicas < a.MinReplicas {
		t.Errorf("%d to %d nodes, of which %d may be away", a.MinReplicas, a.MaxReplicas, budget.MaxUnavailable)
	}
	external := a.Metrics[0].External
	wantServed(t, "the autoscaler", external.Metric.Name, metricsServed(t))
	if most, err := strconv.Atoi(external.Target.AverageValue); err != nil || most <= 0 || external.Target.Type != "AverageValue" {
		t.Errorf("a node for each %q pending, as %s: %v", external.Target.AverageValue, external.Target.Type, err)
	}
	if _, c := readDeployment(t); c.Resources.Requests[a.Metrics[1].Resource.Name] == "" {
		t.Errorf("%s is measured against a request that the container does not make", a.Metrics[1].Resource.Name)
	}
}
