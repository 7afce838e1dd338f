// Command rdma-device-plugin offers a node's RDMA devices to pods that are not privileged: a pod that asks for
// one unit of the resource may open the verbs devices and the connection manager. The devices are shared, so
// there are many units.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	socketName      = "weir-lab-rdma.sock"
	registerTimeout = 5 * time.Second
	checkInterval   = 2 * time.Second
)

type plugin struct {
	api.UnimplementedDevicePluginServer
	units int
}

func main() {
	resource := flag.String("resource", "rdma/hca_shared_devices_a", "name of the resource")
	units := flag.Int("units", 100, "number of pods that may share the devices")
	flag.Parse()
	for {
		if err := serve(*resource, *units); err != nil {
			log.Print(err)
		}
		time.Sleep(checkInterval)
	}
}

// serve registers with the kubelet and returns when the kubelet has restarted, which shows as the removal of
// our socket.
func serve(resource string, units int) error {
	path := filepath.Join(api.DevicePluginPath, socketName)
	_ = os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, &plugin{units: units})
	defer server.Stop()
	go func() { _ = server.Serve(listener) }()
	if err := register(resource); err != nil {
		return err
	}
	log.Printf("registered %s", resource)
	for {
		if _, err := os.Stat(path); err != nil {
			return nil
		}
		time.Sleep(checkInterval)
	}
}

func register(resource string) error {
	connection, err := grpc.NewClient("unix:"+api.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), registerTimeout)
	defer cancel()
	_, err = api.NewRegistrationClient(connection).Register(ctx, &api.RegisterRequest{
		Version:      api.Version,
		Endpoint:     socketName,
		ResourceName: resource,
	})
	return err
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

// ListAndWatch reports the units once; they never change.
func (p *plugin) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	devices := make([]*api.Device, p.units)
	for index := range devices {
		devices[index] = &api.Device{ID: fmt.Sprintf("share-%d", index), Health: api.Healthy}
	}
	if err := stream.Send(&api.ListAndWatchResponse{Devices: devices}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// Allocate gives every container all verbs devices of the node, as they are at that moment.
func (p *plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	paths, err := filepath.Glob("/dev/infiniband/uverbs*")
	if err != nil {
		return nil, err
	}
	var devices []*api.DeviceSpec
	for _, path := range append(paths, "/dev/infiniband/rdma_cm") {
		devices = append(devices, &api.DeviceSpec{HostPath: path, ContainerPath: path, Permissions: "rw"})
	}
	response := &api.AllocateResponse{}
	for range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &api.ContainerAllocateResponse{Devices: devices})
	}
	return response, nil
}
