defmodule Switchboard.Directory do
  @moduledoc """
  Tells whoever connects which nodes are registered, one a line. Clients find its port as
  that of a node: by the name "directory", which the VM has that serves as port mapper.
  """
  use Task, restart: :permanent

  @name "directory"
  # Milliseconds until it is looked again whether this VM serves.
  @interval 500

  def start_link(_argument) do
    Task.start_link(__MODULE__, :run, [])
  end

  def run do
    options = [:binary, active: false, ip: :loopback, send_timeout: 5000]
    {:ok, listener} = :gen_tcp.listen(0, options)
    {:ok, port} = :inet.port(listener)
    register(port)
    serve(listener)
  end

  # Of several VMs in mode `auto` all but one wait here for their turn.
  defp register(port) do
    # The name is the VM's: it stays when this process dies and is restarted.
    :portmapper.unregister(@name)
    {:ok, _creation} = :portmapper.register(@name, port)
  catch
    :error, {:not_running, :portmapper} ->
      Process.sleep(@interval)
      register(port)
  end

  defp serve(listener) do
    {:ok, socket} = :gen_tcp.accept(listener)
    :gen_tcp.send(socket, for({name, port} <- :portmapper.names(), do: "#{name} #{port}\n"))
    :gen_tcp.close(socket)
    serve(listener)
  end
end
