#!/usr/bin/env bash
# KubeVirt's export server answers with a map of allocation for an incremental backup if it does not have the name of the checkpoint. A flag has
# another meaning there: a client that reads it as a map of changes takes all data for unchanged.
#
# Seen with virt-exportserver of KubeVirt 1.8.0, BACKUP_TYPE=Incremental and no BACKUP_CHECKPOINT. Output:
#   asked for the bitmap ""
#   map: 200 {"extents":[{"offset":0,"length":65536,"type":0,"description":"data"},{"offset":65536,"length":65536,"type":1,"description":"hole"}],"next_offset":null}
#   data with length 100 at 2 bytes before the end: 200, length unknown, 2 bytes
# In a map of changes, type 0 is "clean" and type 1 is "dirty".
#
# The server is real, and the program below plays the part of virt-launcher. Needs Go 1.26 or newer. It fails when the behaviour has changed.
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
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	kvlog "kubevirt.io/client-go/log"

	nbd "kubevirt.io/kubevirt/pkg/storage/cbt/nbd/v1"
	"kubevirt.io/kubevirt/pkg/storage/export/export"
	server "kubevirt.io/kubevirt/pkg/storage/export/virt-exportserver"
)

const size = 131072

// A disk whose first half is data and whose second half is a hole.
type disk struct{}

func (disk) Map(r *nbd.MapRequest, s nbd.NBD_MapServer) error {
	fmt.Printf("asked for the bitmap %q\n", r.BitmapName)
	return s.Send(&nbd.MapResponse{Extents: []*nbd.Extent{
		{Offset: 0, Length: size / 2, Flags: 0, Description: "data"},
		{Offset: size / 2, Length: size / 2, Flags: 1, Description: "hole"},
	}})
}

// As in KubeVirt, a range is cut at the end of the disk.
func (disk) Read(r *nbd.ReadRequest, s nbd.NBD_ReadServer) error {
	return s.Send(&nbd.DataChunk{Offset: r.Offset, Data: make([]byte, min(r.Length, size-r.Offset))})
}

type conn struct {
	io.Reader
	io.Writer
	net.Conn
}

func (c conn) Read(b []byte) (int, error)        { return c.Reader.Read(b) }
func (c conn) Write(b []byte) (int, error)       { return c.Writer.Write(b) }
func (c conn) Close() error                      { return nil }
func (c conn) LocalAddr() net.Addr               { return &net.TCPAddr{} }
func (c conn) RemoteAddr() net.Addr              { return &net.TCPAddr{} }
func (c conn) SetDeadline(time.Time) error       { return nil }
func (c conn) SetReadDeadline(time.Time) error   { return nil }
func (c conn) SetWriteDeadline(time.Time) error  { return nil }

// A listener with one connection.
type listener chan net.Conn

func (l listener) Accept() (net.Conn, error) { return <-l, nil }
func (l listener) Close() error              { return nil }
func (l listener) Addr() net.Addr            { return &net.TCPAddr{} }

func try[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	log.SetFlags(0)
	kvlog.Log.SetIOWriter(io.Discard)
	key := try(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		Subject: pkix.Name{CommonName: "kubevirt.io:system:client:uid"}, DNSNames: []string{"export"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der := try(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: try(x509.MarshalECPrivateKey(key))})
	for name, text := range map[string][]byte{"cert": cert, "key": secret, "token": []byte("token")} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			log.Fatal(err)
		}
	}
	free := try(net.Listen("tcp", "127.0.0.1:0"))
	address := free.Addr().String()
	free.Close()
	go server.NewExportServer(server.ExportServerConfig{
		ListenAddr: address, CertFile: "cert", KeyFile: "key", TokenFile: "token",
		BackupUID: "uid", BackupType: "Incremental", BackupCACert: cert,
		Paths: &export.ServerPaths{Backups: []export.BackupInfo{{Path: "root", DataURI: "/root/data", MapURI: "/root/map"}}},
	}).Run()

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	config := &tls.Config{RootCAs: roots, ServerName: "export", Certificates: []tls.Certificate{try(tls.X509KeyPair(cert, secret))}}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			log.Fatal(err)
		}
	}
	in, out := io.Pipe()
	request := try(http.NewRequestWithContext(context.Background(), http.MethodConnect, "https://"+address, in))
	tunnel := try((&http2.Transport{TLSClientConfig: config}).RoundTrip(request))
	nodes := grpc.NewServer()
	nbd.RegisterNBDServer(nodes, disk{})
	connections := make(listener, 1)
	connections <- conn{Reader: tunnel.Body, Writer: out}
	go nodes.Serve(connections)

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	get := func(path string) (*http.Response, string) {
		asked := try(http.NewRequest("GET", "https://"+address+path, nil))
		asked.Header.Set("x-kubevirt-export-token", "token")
		answer := try(client.Do(asked))
		return answer, string(try(io.ReadAll(answer.Body)))
	}
	answer, text := get("/root/map")
	fmt.Printf("map: %d %s", answer.StatusCode, text)
	if !strings.Contains(text, `"type":1,"description":"hole"`) {
		log.Fatal("the map is not one of allocation any more")
	}
	answer, text = get(fmt.Sprintf("/root/data?offset=%d&length=100", size-2))
	fmt.Printf("data with length 100 at 2 bytes before the end: %d, length unknown, %d bytes\n", answer.StatusCode, len(text))
	if answer.StatusCode != 200 || answer.ContentLength != -1 || len(text) != 2 {
		log.Fatalf("not any more: %d, length %d, %d bytes", answer.StatusCode, answer.ContentLength, len(text))
	}
}
GO

GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -trimpath -o program . && ./program
