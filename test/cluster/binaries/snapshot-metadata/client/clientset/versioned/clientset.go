// Package versioned reads SnapshotMetadataServices (cbt.storage.k8s.io/v1beta1).
package versioned

import (
	"context"
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

const resourcePath = "/apis/cbt.storage.k8s.io/v1beta1/snapshotmetadataservices/"

type SnapshotMetadataService struct {
	Spec struct {
		Audience string `json:"audience"`
		Address  string `json:"address"`
		CACert   []byte `json:"caCert"`
	} `json:"spec"`
}

type Interface interface {
	CbtV1beta1() CbtV1beta1Interface
}

type CbtV1beta1Interface interface {
	SnapshotMetadataServices() SnapshotMetadataServiceInterface
}

type SnapshotMetadataServiceInterface interface {
	Get(ctx context.Context, name string, options metav1.GetOptions) (*SnapshotMetadataService, error)
}

type Clientset struct {
	client rest.Interface
}

func NewForConfig(config *rest.Config) (*Clientset, error) {
	own := *config
	own.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(&own)
	return &Clientset{client: client}, err
}

func (clientset *Clientset) CbtV1beta1() CbtV1beta1Interface {
	return clientset
}

func (clientset *Clientset) SnapshotMetadataServices() SnapshotMetadataServiceInterface {
	return clientset
}

func (clientset *Clientset) Get(ctx context.Context, name string, _ metav1.GetOptions) (*SnapshotMetadataService, error) {
	text, err := clientset.client.Get().AbsPath(resourcePath + name).DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	found := &SnapshotMetadataService{}
	return found, json.Unmarshal(text, found)
}
