// A shoes plugin made with the real go-plugin and the real grpc-go: each machine is a process of this host
// that runs its setup script, and a file in a directory that says so.
//
// Everything is configured by the environment, as published plugins do:
//
//	TEST_DIR        where machines are kept (one directory each)
//	TEST_IMAGE      a directory whose copy each machine has
//	TEST_PACKAGE    new (default) or old: the service's package before myshoes 1.12
//	TEST_MODES      words with commas: what is wrong with it (see modes below)
//	TEST_START_MS   how long it takes to its handshake
//	TEST_CALL_MS    how long a call takes
//	TEST_WRAPPER    a program that is given the setup script, in place of the script itself
//	TEST_DOCKER     an engine's socket: machines are containers (containers.go)
//
//	TEST_HEALTH     what its health service answers, noted as a call: not-found, unknown, unimplemented, not-serving,
//	                serving (go-plugin's own answer)
//
// While TEST_DIR holds a file `refuse-add` or `refuse-delete`, such calls fail.
//
// With `host PROGRAM` it is the other end: it starts that plugin and calls it (host.go).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

type addRequest struct {
	RunnerName   string   `protobuf:"bytes,1,opt,name=runner_name,json=runnerName,proto3"`
	SetupScript  string   `protobuf:"bytes,2,opt,name=setup_script,json=setupScript,proto3"`
	ResourceType int32    `protobuf:"varint,3,opt,name=resource_type,json=resourceType,proto3"`
	Labels       []string `protobuf:"bytes,4,rep,name=labels,proto3"`
}

func (m *addRequest) Reset()         { *m = addRequest{} }
func (m *addRequest) String() string { return m.RunnerName }
func (*addRequest) ProtoMessage()    {}

type addResponse struct {
	CloudID      string `protobuf:"bytes,1,opt,name=cloud_id,json=cloudId,proto3"`
	ShoesType    string `protobuf:"bytes,2,opt,name=shoes_type,json=shoesType,proto3"`
	IPAddress    string `protobuf:"bytes,3,opt,name=ip_address,json=ipAddress,proto3"`
	ResourceType int32  `protobuf:"varint,4,opt,name=resource_type,json=resourceType,proto3"`
}

func (m *addResponse) Reset()         { *m = addResponse{} }
func (m *addResponse) String() string { return m.CloudID }
func (*addResponse) ProtoMessage()    {}

type deleteRequest struct {
	CloudID string   `protobuf:"bytes,1,opt,name=cloud_id,json=cloudId,proto3"`
	Labels  []string `protobuf:"bytes,2,rep,name=labels,proto3"`
}

func (m *deleteRequest) Reset()         { *m = deleteRequest{} }
func (m *deleteRequest) String() string { return m.CloudID }
func (*deleteRequest) ProtoMessage()    {}

type deleteResponse struct{}

func (m *deleteResponse) Reset()         {}
func (m *deleteResponse) String() string { return "" }
func (*deleteResponse) ProtoMessage()    {}

// server makes machines. What a mode does is where it is asked for.
type server struct {
	directory string
	modes     map[string]bool
	delay     time.Duration
	calls     atomic.Int64
	docker    *containers
}

// note writes what was called, for whoever counts.
func (s *server) note(words ...string) {
	file, err := os.OpenFile(filepath.Join(s.directory, "calls"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer file.Close()
	fmt.Fprintf(file, "%d %s\n", os.Getpid(), strings.Join(words, " "))
}

// refuses says whether a test wants this call to fail for now.
func (s *server) refuses(call string) error {
	if _, err := os.Stat(filepath.Join(s.directory, "refuse-"+call)); err != nil {
		return nil
	}
	return status.Error(codes.Internal, "as it was told to for now")
}

func (s *server) trouble() error {
	time.Sleep(s.delay)
	if s.modes["hang"] {
		select {}
	}
	if s.modes["die"] {
		os.Exit(3)
	}
	if s.modes["die-once"] {
		mark := filepath.Join(s.directory, "died")
		if _, err := os.Stat(mark); errors.Is(err, os.ErrNotExist) {
			_ = os.WriteFile(mark, nil, 0o600)
			os.Exit(3)
		}
	}
	return nil
}

func (s *server) add(_ context.Context, request *addRequest) (*addResponse, error) {
	s.note("add", request.RunnerName, strconv.Itoa(int(request.ResourceType)), strings.Join(request.Labels, ","))
	if err := s.refuses("add"); err != nil {
		return nil, err
	}
	for _, mode := range []struct {
		name string
		code codes.Code
	}{
		{"invalid", codes.InvalidArgument}, {"internal", codes.Internal}, {"full", codes.ResourceExhausted},
	} {
		if s.modes[mode.name] {
			return nil, status.Error(mode.code, "as it was told to")
		}
	}
	id := request.RunnerName
	if s.modes["opaque-ids"] {
		id = fmt.Sprintf("i-%d-%d", os.Getpid(), s.calls.Add(1))
	}
	machine := filepath.Join(s.directory, "machines", id)
	if err := os.Mkdir(machine, 0o700); err != nil && !(errors.Is(err, os.ErrExist) && s.modes["idempotent"]) {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if s.docker != nil {
		return s.contain(request, id, machine)
	}
	if image := os.Getenv("TEST_IMAGE"); image != "" {
		if err := os.CopyFS(machine, os.DirFS(image)); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	script := filepath.Join(machine, "script")
	// A process that another call forks while the file is open would hold it open, and it could not be executed.
	syscall.ForkLock.RLock()
	err := os.WriteFile(script, []byte(request.SetupScript), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	log, err := os.Create(filepath.Join(machine, "log"))
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	defer log.Close()
	command := exec.Command(script)
	if wrapper := os.Getenv("TEST_WRAPPER"); wrapper != "" {
		command = exec.Command(wrapper, script)
	}
	command.Dir, command.Stdout, command.Stderr = machine, log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	_ = os.WriteFile(filepath.Join(machine, "pid"), []byte(strconv.Itoa(command.Process.Pid)), 0o600)
	go func() { _ = command.Wait() }()
	if err := s.trouble(); err != nil {
		return nil, err
	}
	response := &addResponse{CloudID: id, ShoesType: "test", IPAddress: "127.0.0.1"}
	if s.modes["echo-size"] {
		response.ResourceType = request.ResourceType
	}
	fmt.Println("made", id)
	fmt.Fprintln(os.Stderr, "and says so of", id)
	return response, nil
}

// contain makes a machine that is a container.
func (s *server) contain(request *addRequest, id, machine string) (*addResponse, error) {
	if err := writeScript(machine, request.SetupScript); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	scope := ""
	if len(request.Labels) > 1 {
		scope = request.Labels[1]
	}
	if err := s.docker.start(id, machine, scope); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := s.trouble(); err != nil {
		return nil, err
	}
	return &addResponse{CloudID: id, ShoesType: "docker", IPAddress: "127.0.0.1"}, nil
}

func (s *server) delete(_ context.Context, request *deleteRequest) (*deleteResponse, error) {
	s.note("delete", request.CloudID, strings.Join(request.Labels, ","))
	if err := s.refuses("delete"); err != nil {
		return nil, err
	}
	if err := s.trouble(); err != nil {
		return nil, err
	}
	machine := filepath.Join(s.directory, "machines", filepath.Base(request.CloudID))
	if s.docker != nil {
		err := s.docker.remove(filepath.Base(request.CloudID))
		if err == nil || status.Code(err) == codes.NotFound {
			_ = os.RemoveAll(machine)
		}
		if err != nil {
			return nil, err
		}
		return &deleteResponse{}, nil
	}
	pid, err := os.ReadFile(filepath.Join(machine, "pid"))
	if err != nil {
		if s.modes["missing-is-internal"] {
			return nil, status.Error(codes.Internal, "no such machine")
		}
		return nil, status.Error(codes.NotFound, "no such machine")
	}
	if number, err := strconv.Atoi(string(pid)); err == nil {
		_ = syscall.Kill(-number, syscall.SIGKILL)
	}
	if err := os.RemoveAll(machine); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &deleteResponse{}, nil
}

func description(name string) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: name,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "AddInstance", Handler: func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				request := new(addRequest)
				if err := decode(request); err != nil {
					return nil, err
				}
				return srv.(*server).add(ctx, request)
			}},
			{MethodName: "DeleteInstance", Handler: func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				request := new(deleteRequest)
				if err := decode(request); err != nil {
					return nil, err
				}
				return srv.(*server).delete(ctx, request)
			}},
		},
	}
}

// shoes is what go-plugin serves.
type shoes struct {
	plugin.Plugin
	name string
	impl *server
}

func (p *shoes) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	s.RegisterService(description(p.name), p.impl)
	return nil
}

func (p *shoes) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a plugin is no client")
}

// around answers what a test wants in place of go-plugin's own services, and notes that it was told to end.
func (s *server) around(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if info.FullMethod == "/plugin.GRPCController/Shutdown" {
		s.note("shutdown")
		if s.modes["stay"] {
			return nil, status.Error(codes.Unavailable, "as it was told to")
		}
	}
	check, is := request.(*grpc_health_v1.HealthCheckRequest)
	answer := os.Getenv("TEST_HEALTH")
	if !is || answer == "" {
		return next(ctx, request)
	}
	s.note("health", check.Service)
	switch answer {
	case "not-found":
		return nil, status.Error(codes.NotFound, "unknown service")
	case "unimplemented":
		return nil, status.Error(codes.Unimplemented, "unknown service grpc.health.v1.Health")
	case "unknown":
		return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN}, nil
	case "not-serving":
		return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_NOT_SERVING}, nil
	}
	return next(ctx, request)
}

func milliseconds(name string) time.Duration {
	number, _ := strconv.Atoi(os.Getenv(name))
	return time.Duration(number) * time.Millisecond
}

const (
	newName = "whywaita.myshoes.Shoes"
	oldName = "myshoes.shoes.Shoes"
)

var handshake = plugin.HandshakeConfig{
	ProtocolVersion: 1, MagicCookieKey: "SHOES_PLUGIN_MAGIC_COOKIE", MagicCookieValue: "are_you_a_shoes?",
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "host" {
		if err := host(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	modes := map[string]bool{}
	for _, mode := range strings.Split(os.Getenv("TEST_MODES"), ",") {
		modes[mode] = true
	}
	time.Sleep(milliseconds("TEST_START_MS"))
	if modes["rubbish"] {
		fmt.Fprintln(os.Stderr, "usage: none")
		fmt.Println("Hello! I am no plugin at all.")
		time.Sleep(time.Hour)
	}
	if modes["dead"] {
		fmt.Fprintln(os.Stderr, "TEST_TOKEN must be set")
		os.Exit(4)
	}
	directory := os.Getenv("TEST_DIR")
	_ = os.MkdirAll(filepath.Join(directory, "machines"), 0o700)
	name := newName
	if os.Getenv("TEST_PACKAGE") == "old" {
		name = oldName
	}
	impl := &server{directory: directory, modes: modes, delay: milliseconds("TEST_CALL_MS")}
	if socket := os.Getenv("TEST_DOCKER"); socket != "" {
		impl.docker = newContainers(socket, directory)
	}
	impl.note("start")
	// What a plugin is told by its environment, for tests that look whether it is.
	working, _ := os.Getwd()
	impl.note("told", os.Getenv("SHOES_PLUGIN_MAGIC_COOKIE"), os.Getenv("PLUGIN_PROTOCOL_VERSIONS"),
		os.Getenv("PLUGIN_MIN_PORT")+"-"+os.Getenv("PLUGIN_MAX_PORT"),
		"["+os.Getenv("PLUGIN_CLIENT_CERT")+os.Getenv("PLUGIN_MULTIPLEX_GRPC")+"]", os.Getenv("TEST_WORD"), working)
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: handshake,
		Plugins:         map[string]plugin.Plugin{"shoes_grpc": &shoes{name: name, impl: impl}},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return plugin.DefaultGRPCServer(append(options, grpc.UnaryInterceptor(impl.around)))
		},
	})
	impl.note("end")
}
