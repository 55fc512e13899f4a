package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type nodeServer struct {
	csi.UnimplementedNodeServer
	store *store
	node  string
	// By volume. The store's lock guards it.
	devices map[string]*publishedDevice
}

// The kernel detaches the loop device when nothing has it open, so that a driver that is killed leaves none.
type publishedDevice struct {
	device  *os.File
	targets map[string]bool
}

func (server *nodeServer) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	topology := &csi.Topology{Segments: map[string]string{topologyKey: server.node}}
	return &csi.NodeGetInfoResponse{NodeId: server.node, AccessibleTopology: topology}, nil
}

func (*nodeServer) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

func (server *nodeServer) NodePublishVolume(_ context.Context, request *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	server.store.lock.Lock()
	defer server.store.lock.Unlock()
	volume, err := server.store.read(volumesFolder, request.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if volume == nil {
		return nil, status.Errorf(codes.NotFound, "no volume %s", request.GetVolumeId())
	}
	target := request.GetTargetPath()
	mounted, err := isMounted(target)
	if err != nil || mounted {
		return &csi.NodePublishVolumeResponse{}, err
	}
	if volume.Block {
		err = server.publishDevice(request.GetVolumeId(), target)
	} else {
		err = publishFolder(server.store.contentOf(volumesFolder, request.GetVolumeId(), false), target, request.GetReadonly())
	}
	return &csi.NodePublishVolumeResponse{}, err
}

func publishFolder(folder, target string, readonly bool) error {
	if err := os.MkdirAll(target, 0o750); err != nil {
		return err
	}
	if err := unix.Mount(folder, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	if !readonly {
		return nil
	}
	// A bind mount takes this flag only when it is mounted again.
	return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

func (server *nodeServer) publishDevice(id, target string) error {
	published := server.devices[id]
	if published == nil {
		device, err := attachLoopDevice(server.store.contentOf(volumesFolder, id, true))
		if err != nil {
			return err
		}
		published = &publishedDevice{device: device, targets: map[string]bool{}}
		server.devices[id] = published
	}
	published.targets[target] = true
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		return err
	}
	return unix.Mount(published.device.Name(), target, "", unix.MS_BIND, "")
}

func (server *nodeServer) NodeUnpublishVolume(_ context.Context, request *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	server.store.lock.Lock()
	defer server.store.lock.Unlock()
	target := request.GetTargetPath()
	mounted, err := isMounted(target)
	if err != nil {
		return nil, err
	}
	if mounted {
		if err := unix.Unmount(target, 0); err != nil {
			return nil, fmt.Errorf("unmount %s: %w", target, err)
		}
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if published := server.devices[request.GetVolumeId()]; published != nil {
		delete(published.targets, target)
		if len(published.targets) == 0 {
			delete(server.devices, request.GetVolumeId())
			return &csi.NodeUnpublishVolumeResponse{}, published.device.Close()
		}
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func isMounted(target string) (bool, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == target {
			return true, nil
		}
	}
	return false, nil
}

const loopMajor = 7

func attachLoopDevice(name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, err
		}
		// In a container /dev does not follow the kernel.
		node := fmt.Sprintf("/dev/loop%d", number)
		if err := unix.Mknod(node, unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(number)))); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		device, err := os.OpenFile(node, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		device.Close()
		// Another process was faster.
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("%s: %w", node, err)
		}
	}
}
