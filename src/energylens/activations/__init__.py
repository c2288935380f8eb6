"""Sites to tensors: capture, edit and stream the activations of any `nn.Module`."""
