package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// containers makes machines that are containers of a Docker engine: the image has the runner, this host lends its
// programs, read only, and the setup script is what the container runs.
type containers struct {
	client *http.Client
	image  string
	// owner tells machines of one directory from those of others.
	owner string
}

func newContainers(socket, directory string) *containers {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &containers{
		client: &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: time.Minute},
		image:  os.Getenv("TEST_DOCKER_IMAGE"),
		owner:  directory,
	}
}

func (c *containers) call(method, path string, body any) (int, string, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, "", err
	}
	request, err := http.NewRequest(method, "http://engine"+path, bytes.NewReader(text))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := c.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	said, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(said), nil
}

// start makes a container that runs the script in its directory, and starts it.
func (c *containers) start(id, machine, scope string) error {
	mounts := []string{machine + ":/machine:ro"}
	for _, lent := range []string{"/bin", "/sbin", "/usr", "/lib", "/lib64", "/etc"} {
		if _, err := os.Stat(lent); err == nil {
			mounts = append(mounts, lent+":"+lent+":ro")
		}
	}
	wanted := map[string]any{
		"Image":      c.image,
		"Entrypoint": []string{"/bin/bash", "/machine/script"},
		"Cmd":        []string{},
		"WorkingDir": "/home",
		"Env":        []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=/home"},
		"Labels":     map[string]string{"shoes-test": c.owner, "shoes-scope": scope},
		// The box is on this host's loopback interface.
		"HostConfig": map[string]any{"NetworkMode": "host", "Binds": mounts},
	}
	code, said, err := c.call("POST", "/containers/create?name="+id, wanted)
	if err != nil || code != http.StatusCreated {
		return fmt.Errorf("create: %d %s %v", code, said, err)
	}
	code, said, err = c.call("POST", "/containers/"+id+"/start", nil)
	if err != nil || code != http.StatusNoContent {
		return fmt.Errorf("start: %d %s %v", code, said, err)
	}
	return nil
}

func (c *containers) remove(id string) error {
	code, said, err := c.call("DELETE", "/containers/"+id+"?force=1", nil)
	switch {
	case err != nil:
		return status.Error(codes.Unavailable, err.Error())
	case code == http.StatusNotFound:
		return status.Error(codes.NotFound, "no such container")
	case code != http.StatusNoContent:
		return status.Error(codes.Internal, said)
	}
	return nil
}

// script writes what the machine runs. What is mounted into a container is read by its root only.
func writeScript(machine, text string) error {
	return os.WriteFile(filepath.Join(machine, "script"), []byte(text), 0o700)
}
