package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// host is the other end: it starts a plugin as myshoes does, by the real go-plugin, calls it by both names of
// the service, and prints what came of it.
func host(program string) error {
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  handshake,
		Plugins:          map[string]plugin.Plugin{"shoes_grpc": &called{}},
		Cmd:              exec.Command(program),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
	})
	defer client.Kill()
	protocol, err := client.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense("shoes_grpc")
	if err != nil {
		return err
	}
	if err := protocol.Ping(); err != nil {
		return err
	}
	connection := raw.(*grpc.ClientConn)
	for _, service := range []string{newName, oldName} {
		request := &addRequest{
			RunnerName: "myshoes-host", SetupScript: "#!/bin/sh\nexec sleep 100\n", ResourceType: 3, Labels: []string{"a"},
		}
		made := new(addResponse)
		if err := connection.Invoke(context.Background(), "/"+service+"/AddInstance", request, made); err != nil {
			return err
		}
		fmt.Printf("added %s, a %s of size %d\n", made.CloudID, made.ShoesType, made.ResourceType)
		for range 2 {
			gone := &deleteRequest{CloudID: made.CloudID, Labels: []string{"a"}}
			err := connection.Invoke(context.Background(), "/"+service+"/DeleteInstance", gone, new(deleteResponse))
			fmt.Println("deleted:", status.Code(err))
		}
	}
	client.Kill()
	fmt.Println("exited:", client.Exited())
	return nil
}

// called is a plugin as its host sees it.
type called struct{ plugin.Plugin }

func (*called) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("a host is no plugin")
}

func (*called) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, connection *grpc.ClientConn) (any, error) {
	return connection, nil
}
