// A CSI driver for tests. Its volumes and snapshots are directories of one file system, which should be able to share
// the blocks of files, so that a copy shows one moment.
// It registers itself with the kubelet, and its classes can ask for faults.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const driverName = "csi.test.disklift.dev"

// The label of nodes whose volumes lie on one disk.
const topologyKey = "topology." + driverName + "/node"

func main() {
	log.SetFlags(log.LUTC | log.Ldate | log.Lmicroseconds)
	root := flag.String("root", "", "directory of the volumes and the snapshots")
	node := flag.String("node", "", "name of the node")
	socket := flag.String("socket", "", "socket of the driver")
	registration := flag.String("registration", "", "socket by which the kubelet finds the driver")
	flag.Parse()
	volumes, err := openStore(*root)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(logCall))
	csi.RegisterIdentityServer(server, &identityServer{})
	csi.RegisterControllerServer(server, &controllerServer{store: volumes, node: *node, failures: map[string]int{}})
	csi.RegisterNodeServer(server, &nodeServer{store: volumes, node: *node, devices: map[string]*publishedDevice{}})
	csi.RegisterSnapshotMetadataServer(server, &metadataServer{store: volumes})
	listener := listen(*socket)
	go serveRegistration(listen(*registration), *socket)
	log.Fatal(server.Serve(listener))
}

func listen(socket string) net.Listener {
	// A killed predecessor leaves it.
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

func logCall(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	answer, err := handler(ctx, request)
	text := ""
	if message, ok := request.(proto.Message); ok {
		text = protojson.MarshalOptions{}.Format(message)
	}
	log.Printf("%s %s: %v", info.FullMethod, text, err)
	return answer, err
}
