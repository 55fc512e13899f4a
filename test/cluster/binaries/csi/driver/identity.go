package main

import (
	"context"
	"log"
	"net"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

type identityServer struct {
	csi.UnimplementedIdentityServer
}

func (*identityServer) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: driverName, VendorVersion: "0.1.0"}, nil
}

func (*identityServer) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	capability := func(kind csi.PluginCapability_Service_Type) *csi.PluginCapability {
		service := &csi.PluginCapability_Service{Type: kind}
		return &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: service}}
	}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		capability(csi.PluginCapability_Service_CONTROLLER_SERVICE),
		capability(csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS),
		capability(csi.PluginCapability_Service_SNAPSHOT_METADATA_SERVICE),
	}}, nil
}

func (*identityServer) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

// The kubelet asks every socket in its directory which plugin it is.
type registrationServer struct {
	registration.UnimplementedRegistrationServer
	socket string
}

func serveRegistration(listener net.Listener, socket string) {
	server := grpc.NewServer(grpc.UnaryInterceptor(logCall))
	registration.RegisterRegistrationServer(server, &registrationServer{socket: socket})
	log.Fatal(server.Serve(listener))
}

func (server *registrationServer) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              driverName,
		Endpoint:          server.socket,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (*registrationServer) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !status.PluginRegistered {
		log.Fatalf("the kubelet does not register the driver: %s", status.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}
