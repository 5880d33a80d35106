// A device plugin that offers nvidia.com/gpu on a machine without any: which cards there are and how they
// feel stands in a JSON file, {"GPU-0": "Healthy", "GPU-1": "Unhealthy"}, and may change at any time.
//
// It speaks kubelet's real API, so that allocation, capacity and health go the way they go with cards.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"syscall"
	"time"

	"k8s.io/klog/v2"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	plugin "k8s.io/kubernetes/pkg/kubelet/cm/devicemanager/plugin/v1beta1"
)

const (
	resource = "nvidia.com/gpu"
	socket   = pluginapi.DevicePluginPath + "onggi-gpu.sock"
	interval = 250 * time.Millisecond
)

func main() {
	file := flag.String("devices", "/etc/onggi/gpus.json", "the cards and their health")
	flag.Parse()
	if err := run(context.Background(), *file); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file string) error {
	health, err := read(file)
	if err != nil {
		return err
	}
	kubelet, err := inode(pluginapi.KubeletSocket)
	if err != nil {
		return fmt.Errorf("kubelet is not there: %w", err)
	}
	stub := plugin.NewDevicePluginStub(klog.Background(), devices(health), socket, resource, false, false)
	stub.SetAllocFunc(allocate)
	if err := stub.Start(ctx); err != nil {
		return err
	}
	if err := stub.Register(ctx, pluginapi.KubeletSocket, resource, ""); err != nil {
		return err
	}
	return follow(stub, file, health, kubelet)
}

// follow reports every change of the file. It returns when kubelet was started anew, which forgot us: the
// container's next start registers again with what the file says then.
func follow(stub *plugin.Stub, file string, known map[string]string, kubelet uint64) error {
	for ; ; time.Sleep(interval) {
		if now, err := inode(pluginapi.KubeletSocket); err != nil || now != kubelet {
			return fmt.Errorf("kubelet was started anew")
		}
		health, err := read(file)
		if err != nil {
			klog.ErrorS(err, "Keeping the cards as they are")
			continue
		}
		if !reflect.DeepEqual(health, known) {
			klog.InfoS("Cards changed", "cards", health)
			stub.Update(devices(health))
			known = health
		}
	}
}

func read(file string) (map[string]string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var health map[string]string
	if err := json.Unmarshal(content, &health); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return health, nil
}

func devices(health map[string]string) []*pluginapi.Device {
	listed := make([]*pluginapi.Device, 0, len(health))
	for id, state := range health {
		listed = append(listed, &pluginapi.Device{ID: id, Health: state})
	}
	return listed
}

// allocate answers as NVIDIA's plugin does: the container is told which cards are its own.
func allocate(request *pluginapi.AllocateRequest, _ map[string]*pluginapi.Device) (*pluginapi.AllocateResponse, error) {
	response := &pluginapi.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &pluginapi.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
		})
	}
	return response, nil
}

func inode(path string) (uint64, error) {
	var found syscall.Stat_t
	if err := syscall.Stat(path, &found); err != nil {
		return 0, err
	}
	return found.Ino, nil
}
