"""The model server: a blue and a green slot behind one address; start at `server.serve` and `app.create_app`."""
