#!/usr/bin/env bash
# KubeVirt calls a VM snapshot ready that holds no disk, and forgets that a guest ran if the guest stops while the snapshot is taken.
#
# Seen with the snapshot controller of KubeVirt 1.8.0:
# - The claim of a VM has a storage class without a VolumeSnapshotClass. Its VirtualMachineSnapshot ends as Succeeded and readyToUse, without a
#   VolumeSnapshot and without an error. Only status.snapshotVolumes.excludedVolumes names the disk. (KubeVirt 1.9 adds an indication PartialSnapshot.)
# - A guest runs and is frozen: the status indicates Online and GuestAgent. The guest ends before storage has cut its VolumeSnapshot. The finished
#   snapshot has no indications and reads like the snapshot of a stopped VM. Its disks may be in the middle of the guest's writes.
#
# The controller is real, and the program below answers its API calls. Needs Go 1.26 or newer. It fails when the behaviour has changed.
set -euo pipefail

pins=$(cd "$(dirname "$0")/../test/cluster/binaries/kubevirt" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cp "$pins/go.mod" "$pins/go.sum" .
PATH="$PATH:/usr/local/go/bin"

cat > main.go << 'GO'
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	jsonpatch "github.com/evanphx/json-patch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"kubevirt.io/client-go/kubecli"
	kvlog "kubevirt.io/client-go/log"

	"kubevirt.io/kubevirt/pkg/controller"
	"kubevirt.io/kubevirt/pkg/storage/snapshot"
)

type object = map[string]any

// A server of the Kubernetes API: list, watch, get, create, replace and JSON patch.
type server struct {
	sync.Mutex
	objects map[string]object
	version int
	watches map[chan event]string
}

type event struct {
	Type   string `json:"type"`
	Object object `json:"object"`
	path   string
}

var kinds = map[string]string{
	"virtualmachines": "VirtualMachine", "virtualmachineinstances": "VirtualMachineInstance", "virtualmachinesnapshots": "VirtualMachineSnapshot",
	"virtualmachinesnapshotcontents": "VirtualMachineSnapshotContent", "controllerrevisions": "ControllerRevision", "storageclasses": "StorageClass",
	"persistentvolumeclaims": "PersistentVolumeClaim", "customresourcedefinitions": "CustomResourceDefinition", "pods": "Pod",
	"volumesnapshots": "VolumeSnapshot", "volumesnapshotclasses": "VolumeSnapshotClass",
}

// typeOf gives the version and the kind of the objects of a collection.
func typeOf(collection string) (string, string) {
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(collection, "/apis/"), "/api/"), "/")
	version := parts[0]
	if strings.HasPrefix(collection, "/apis/") {
		version += "/" + parts[1]
	}
	return version, kinds[parts[len(parts)-1]]
}

func (s *server) put(kind, path string, o object) {
	s.version++
	if o["metadata"] == nil {
		o["metadata"] = object{}
	}
	m := o["metadata"].(object)
	m["resourceVersion"] = fmt.Sprint(s.version)
	o["apiVersion"], o["kind"] = typeOf(path[:strings.LastIndex(path, "/")])
	parts := strings.Split(path, "/")
	m["name"] = parts[len(parts)-1]
	if parts[len(parts)-4] == "namespaces" {
		m["namespace"] = parts[len(parts)-3]
	}
	if m["uid"] == nil {
		m["uid"], m["creationTimestamp"] = fmt.Sprintf("uid-%d", s.version), time.Now().UTC().Format(time.RFC3339)
	}
	if kind == "DELETED" {
		delete(s.objects, path)
	} else {
		s.objects[path] = o
	}
	for c := range s.watches {
		c <- event{kind, o, path}
	}
}

// listed is true for an object of a collection, in one namespace or in all.
func listed(collection, path string) bool {
	if i := strings.Index(path, "/namespaces/"); i >= 0 && !strings.Contains(collection, "/namespaces/") {
		path = path[:i] + "/" + strings.SplitN(path[i+len("/namespaces/"):], "/", 2)[1]
	}
	return strings.HasPrefix(path, collection+"/")
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	body := object{}
	raw, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(raw, &body)
	w.Header().Set("Content-Type", "application/json")
	answer := func(code int, o any) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(o)
	}
	s.Lock()
	if r.URL.Query().Get("watch") != "" {
		c := make(chan event, 1000)
		s.watches[c] = path
		s.Unlock()
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		for {
			select {
			case <-r.Context().Done():
				return
			case e := <-c:
				if listed(path, e.path) {
					_ = json.NewEncoder(w).Encode(e)
					w.(http.Flusher).Flush()
				}
			}
		}
	}
	defer s.Unlock()
	place, status := strings.CutSuffix(path, "/status")
	old, exists := s.objects[place]
	switch {
	case strings.HasPrefix(path, "/apis/subresources.kubevirt.io/"):
		w.WriteHeader(202)
	case r.Method == "GET" && exists:
		answer(200, old)
	case r.Method == "GET":
		items := []object{}
		for path, o := range s.objects {
			if listed(place, path) {
				items = append(items, o)
			}
		}
		version, kind := typeOf(path)
		answer(200, object{"apiVersion": version, "kind": kind + "List", "metadata": object{"resourceVersion": fmt.Sprint(s.version)}, "items": items})
	case r.Method == "POST":
		name := body["metadata"].(object)["name"].(string)
		s.put("ADDED", path+"/"+name, body)
		answer(201, body)
	case r.Method == "PUT":
		if status {
			body = object{"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": old["metadata"], "spec": old["spec"], "status": body["status"]}
		}
		s.put("MODIFIED", place, body)
		answer(200, body)
	case r.Method == "PATCH":
		text, _ := json.Marshal(old)
		patch, err := jsonpatch.DecodePatch(raw)
		if err == nil {
			text, err = patch.Apply(text)
		}
		if err != nil {
			answer(422, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422})
			return
		}
		changed := object{}
		_ = json.Unmarshal(text, &changed)
		s.put("MODIFIED", place, changed)
		answer(200, changed)
	}
}

func (s *server) set(path, text string) {
	o := object{}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		log.Fatal(path, err)
	}
	s.Lock()
	defer s.Unlock()
	kind := "ADDED"
	if old, exists := s.objects[path]; exists {
		kind = "MODIFIED"
		for key, value := range o {
			old[key] = value
		}
		o = old
	}
	s.put(kind, path, o)
}

func (s *server) remove(path string) {
	s.Lock()
	defer s.Unlock()
	s.put("DELETED", path, s.objects[path])
}

// wait returns the path and the status of the first object below the path whose status is as wanted.
func (s *server) wait(path string, wanted func(status object) bool) (string, object) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		s.Lock()
		for name, o := range s.objects {
			if status, _ := o["status"].(object); strings.HasPrefix(name, path) && wanted(status) {
				s.Unlock()
				return name, status
			}
		}
		s.Unlock()
	}
	log.Fatal("waited in vain for ", path)
	return "", nil
}

const (
	kubevirt  = "/apis/kubevirt.io/v1/namespaces/vms/"
	snapshots = "/apis/snapshot.kubevirt.io/v1beta1/namespaces/vms/virtualmachinesnapshots/"
	storage   = "/apis/snapshot.storage.k8s.io/v1/"
	agent     = `{"metadata": {}, "status": {"phase": "Running", "virtualMachineRevisionName": "with-rev", "conditions": [{"type": "AgentConnected", "status": "True"}]}}`
)

func main() {
	log.SetFlags(0)
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	kvlog.Log.SetIOWriter(io.Discard)
	s := &server{objects: map[string]object{}, watches: map[chan event]string{}}
	for _, name := range []string{"volumesnapshots", "volumesnapshotclasses"} {
		s.set("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"+name+".snapshot.storage.k8s.io", `{"spec": {"versions": [{"name": "v1", "served": true}]}}`)
	}
	s.set("/apis/storage.k8s.io/v1/storageclasses/plain", `{"provisioner": "plain.example.com"}`)
	s.set("/apis/storage.k8s.io/v1/storageclasses/with", `{"provisioner": "with.example.com"}`)
	s.set(storage+"volumesnapshotclasses/with", `{"driver": "with.example.com", "deletionPolicy": "Delete"}`)
	for _, name := range []string{"plain", "with"} {
		s.set("/api/v1/namespaces/vms/persistentvolumeclaims/"+name, fmt.Sprintf(`{"spec": {"storageClassName": %q, "resources": {}}, "status": {"phase": "Bound"}}`, name))
		vm := fmt.Sprintf(`{"spec": {"template": {"metadata": {}, "spec": {"domain": {"devices": {}}, "volumes": [{"name": "root", "persistentVolumeClaim": {"claimName": %q}}]}}}}`, name)
		s.set(kubevirt+"virtualmachines/"+name, vm)
		s.set("/apis/apps/v1/namespaces/vms/controllerrevisions/"+name+"-rev", fmt.Sprintf(`{"revision": 1, "data": %s}`, vm))
	}
	s.set(kubevirt+"virtualmachineinstances/with", agent)

	web := httptest.NewServer(s)
	client, err := kubecli.GetKubevirtClientFromRESTConfig(&rest.Config{Host: web.URL, QPS: 1000, Burst: 1000})
	if err != nil {
		log.Fatal(err)
	}
	factory := controller.NewKubeInformerFactory(client.RestClient(), client, nil, "kubevirt")
	c := &snapshot.VMSnapshotController{
		Client: client, Recorder: record.NewFakeRecorder(1000), ResyncPeriod: time.Hour,
		VMSnapshotInformer: factory.VirtualMachineSnapshot(), VMSnapshotContentInformer: factory.VirtualMachineSnapshotContent(),
		VMInformer: factory.VirtualMachine(), VMIInformer: factory.VMI(), StorageClassInformer: factory.StorageClass(),
		StorageProfileInformer: factory.DummyStorageProfile(), PVCInformer: factory.PersistentVolumeClaim(), CRDInformer: factory.CRD(),
		PodInformer: factory.Pod(), DVInformer: factory.DummyDataVolume(), CRInformer: factory.ControllerRevision(),
	}
	if err := c.Init(); err != nil {
		log.Fatal(err)
	}
	factory.Start(context.Background().Done())
	go c.Run(2, context.Background().Done())

	take := func(name string) {
		s.set(snapshots+name, fmt.Sprintf(`{"spec": {"source": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": %q}}}`, name))
	}
	succeeded := func(status object) bool { return status["phase"] == "Succeeded" }

	take("plain")
	_, status := s.wait(snapshots+"plain", succeeded)
	fmt.Println("no VolumeSnapshotClass:", status["phase"], "ready", status["readyToUse"], status["snapshotVolumes"])

	take("with")
	cut, _ := s.wait(storage+"namespaces/vms/volumesnapshots/", func(object) bool { return true })
	_, status = s.wait(snapshots+"with", func(status object) bool { return status["indications"] != nil })
	fmt.Println("frozen:", status["indications"])
	s.remove(kubevirt + "virtualmachineinstances/with")
	// virt-controller's part for VMs writes this status then.
	s.set(kubevirt+"virtualmachines/with", `{"status": {"printableStatus": "Stopped", "snapshotInProgress": "with"}}`)
	s.wait(snapshots+"with", func(status object) bool { return status["indications"] == nil })
	s.set(cut, `{"status": {"readyToUse": true, "creationTime": "2026-11-30T10:00:00Z"}}`)
	_, status = s.wait(snapshots+"with", succeeded)
	fmt.Println("stopped before the cut:", status["phase"], status["indications"])
}
GO

CGO_ENABLED=0 go build -trimpath -buildvcs=false -o snapshots .
seen=$(timeout 100 ./snapshots 2> errors.txt) || { cat errors.txt >&2; exit 1; }
echo "$seen"
[ "$seen" = 'no VolumeSnapshotClass: Succeeded ready true map[excludedVolumes:[root]]
frozen: [GuestAgent Online]
stopped before the cut: Succeeded <nil>' ] || { echo 'the behaviour has changed' >&2; exit 1; }
