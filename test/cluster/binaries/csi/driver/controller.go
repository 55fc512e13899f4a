package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const defaultSizeBytes = 1 << 30

type controllerServer struct {
	csi.UnimplementedControllerServer
	store *store
	node  string
	// Faults that were played, by the name of the volume or the snapshot. The store's lock guards it.
	failures map[string]int
}

func (*controllerServer) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	capability := func(kind csi.ControllerServiceCapability_RPC_Type) *csi.ControllerServiceCapability {
		rpc := &csi.ControllerServiceCapability_RPC{Type: kind}
		return &csi.ControllerServiceCapability{Type: &csi.ControllerServiceCapability_Rpc{Rpc: rpc}}
	}
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: []*csi.ControllerServiceCapability{
		capability(csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME),
		capability(csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT),
	}}, nil
}

func (server *controllerServer) play(ctx context.Context, name string, parameters map[string]string) (faults, error) {
	asked, err := parseFaults(parameters)
	if err != nil {
		return asked, err
	}
	server.store.lock.Lock()
	failed := server.failures[name]
	server.store.lock.Unlock()
	// Without the lock, because other calls go on while this one hangs.
	err = asked.play(ctx, &failed)
	server.store.lock.Lock()
	server.failures[name] = failed
	server.store.lock.Unlock()
	return asked, err
}

func (server *controllerServer) CreateVolume(ctx context.Context, request *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	block, err := isBlock(request.GetVolumeCapabilities())
	if err != nil {
		return nil, err
	}
	source := request.GetVolumeContentSource()
	if source != nil && source.GetSnapshot() == nil {
		return nil, status.Error(codes.InvalidArgument, "volumes are restored from snapshots only")
	}
	// Faults are for restores, so that the claim that is to be exported can have the same class.
	if source == nil {
		if _, err := parseFaults(request.GetParameters()); err != nil {
			return nil, err
		}
	} else if _, err := server.play(ctx, request.GetName(), request.GetParameters()); err != nil {
		return nil, err
	}
	wanted := record{SizeBytes: request.GetCapacityRange().GetRequiredBytes(), Block: block, Source: source.GetSnapshot().GetSnapshotId()}
	if wanted.SizeBytes == 0 {
		wanted.SizeBytes = defaultSizeBytes
	}
	server.store.lock.Lock()
	defer server.store.lock.Unlock()
	existing, err := server.store.read(volumesFolder, request.GetName())
	if err != nil {
		return nil, err
	}
	if existing == nil {
		err = server.fillVolume(request.GetName(), wanted)
	} else if *existing != wanted {
		err = status.Errorf(codes.AlreadyExists, "volume %s has other properties", request.GetName())
	}
	if err != nil {
		return nil, err
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId:           request.GetName(),
		CapacityBytes:      wanted.SizeBytes,
		ContentSource:      source,
		AccessibleTopology: []*csi.Topology{{Segments: map[string]string{topologyKey: server.node}}},
	}}, nil
}

func (server *controllerServer) fillVolume(id string, wanted record) error {
	if wanted.Source != "" {
		snapshot, err := server.store.read(snapshotsFolder, wanted.Source)
		switch {
		case err != nil:
			return err
		case snapshot == nil:
			return status.Errorf(codes.NotFound, "no snapshot %s", wanted.Source)
		case !snapshot.isReady():
			return status.Errorf(codes.FailedPrecondition, "snapshot %s is not ready", wanted.Source)
		case snapshot.Block != wanted.Block:
			return status.Errorf(codes.InvalidArgument, "snapshot %s has another volume mode", wanted.Source)
		case snapshot.SizeBytes > wanted.SizeBytes:
			return status.Errorf(codes.OutOfRange, "snapshot %s has %d bytes", wanted.Source, snapshot.SizeBytes)
		}
	}
	return server.store.create(volumesFolder, id, wanted, func(folder string) error {
		if wanted.Source != "" {
			if err := copyContent(server.store.contentOf(snapshotsFolder, wanted.Source, wanted.Block), folder); err != nil {
				return err
			}
		}
		if wanted.Block {
			return truncate(filepath.Join(folder, "disk.img"), wanted.SizeBytes)
		}
		if wanted.Source != "" {
			return nil
		}
		data := filepath.Join(folder, "data")
		if err := os.Mkdir(data, 0o755); err != nil {
			return err
		}
		// Pods of any user may write; umask would take that away.
		return os.Chmod(data, 0o777)
	})
}

func truncate(name string, sizeBytes int64) error {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Truncate(sizeBytes)
}

func isBlock(capabilities []*csi.VolumeCapability) (bool, error) {
	if len(capabilities) == 0 {
		return false, status.Error(codes.InvalidArgument, "no volume capabilities")
	}
	block := capabilities[0].GetBlock() != nil
	for _, capability := range capabilities {
		if (capability.GetBlock() != nil) != block {
			return false, status.Error(codes.InvalidArgument, "a volume is a directory or a device")
		}
	}
	return block, nil
}

func (server *controllerServer) DeleteVolume(_ context.Context, request *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	server.store.lock.Lock()
	defer server.store.lock.Unlock()
	return &csi.DeleteVolumeResponse{}, server.store.remove(volumesFolder, request.GetVolumeId())
}

func (server *controllerServer) ValidateVolumeCapabilities(_ context.Context, request *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	volume, err := server.store.read(volumesFolder, request.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if volume == nil {
		return nil, status.Errorf(codes.NotFound, "no volume %s", request.GetVolumeId())
	}
	block, err := isBlock(request.GetVolumeCapabilities())
	if err != nil || block != volume.Block {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: "another volume mode"}, err
	}
	confirmed := &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: request.GetVolumeCapabilities()}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: confirmed}, nil
}

func (snapshot *record) isReady() bool {
	return time.Since(snapshot.CreatedAt) >= snapshot.ReadyAfter
}

func (server *controllerServer) CreateSnapshot(ctx context.Context, request *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	asked, err := server.play(ctx, request.GetName(), request.GetParameters())
	if err != nil {
		return nil, err
	}
	server.store.lock.Lock()
	defer server.store.lock.Unlock()
	snapshot, err := server.store.read(snapshotsFolder, request.GetName())
	if err != nil {
		return nil, err
	}
	if snapshot == nil {
		if snapshot, err = server.takeSnapshot(request.GetName(), request.GetSourceVolumeId(), asked); err != nil {
			return nil, err
		}
	}
	if snapshot.Source != request.GetSourceVolumeId() {
		return nil, status.Errorf(codes.AlreadyExists, "snapshot %s is of another volume", request.GetName())
	}
	return &csi.CreateSnapshotResponse{Snapshot: &csi.Snapshot{
		SnapshotId:     request.GetName(),
		SourceVolumeId: snapshot.Source,
		SizeBytes:      snapshot.SizeBytes,
		CreationTime:   timestamppb.New(snapshot.CreatedAt),
		ReadyToUse:     snapshot.isReady(),
	}}, nil
}

func (server *controllerServer) takeSnapshot(id, volumeID string, asked faults) (*record, error) {
	volume, err := server.store.read(volumesFolder, volumeID)
	if err != nil {
		return nil, err
	}
	if volume == nil {
		return nil, status.Errorf(codes.NotFound, "no volume %s", volumeID)
	}
	made := record{
		SizeBytes: volume.SizeBytes, Block: volume.Block, Source: volumeID,
		CreatedAt: time.Now(), ReadyAfter: asked.readyAfter, Metadata: asked.metadata,
	}
	return &made, server.store.create(snapshotsFolder, id, made, func(folder string) error {
		return copyContent(server.store.contentOf(volumesFolder, volumeID, volume.Block), folder)
	})
}

func (server *controllerServer) DeleteSnapshot(_ context.Context, request *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	server.store.lock.Lock()
	defer server.store.lock.Unlock()
	return &csi.DeleteSnapshotResponse{}, server.store.remove(snapshotsFolder, request.GetSnapshotId())
}
