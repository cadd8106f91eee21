%% @doc The application callback.
-module(portmapper_app).
-behaviour(application).

-export([start/2, prep_stop/1, stop/1]).

%% @doc Opens the server before any process is there, so that an error of the
%% configuration or a taken port is told once, readably.
-spec start(application:start_type(), term()) -> {ok, pid(), Top :: pid()} | {error, term()}.
start(_Type, _Args) ->
    case portmapper_server:open() of
        {ok, _Server} ->
            start();
        {error, Reason} ->
            case {Reason, portmapper_registration:decides()} of
                {{address_in_use, _}, true} ->
                    %% This node is a client, which may become the host.
                    start();
                _ ->
                    portmapper_log:cannot_start(Reason),
                    {error, Reason}
            end
    end.

start() ->
    case portmapper_sup:start_link() of
        {ok, Top} -> {ok, Top, Top};
        {error, _} = Error -> Error
    end.

%% @doc Whether the stop was asked for: called too when the supervisor has died,
%% or OTP's master of this application; or the application `kernel', whose end is
%% that of all others and of the VM.
-spec prep_stop(Top :: pid()) -> Requested :: boolean().
prep_stop(Top) ->
    is_process_alive(Top) andalso is_process_alive(group_leader()) andalso
        application_controller:get_master(kernel) =/= undefined.

%% @doc A stop that was asked for closes the server, unless {@link portmapper_epmd}
%% stands on it, too. Otherwise whoever restarts the application finds the server as it
%% was.
-spec stop(Requested :: boolean()) -> ok.
stop(true) ->
    case portmapper_epmd_sup:serves() of
        true -> ok;
        false -> portmapper_server:close(portmapper_server:what_ends())
    end;
stop(false) ->
    ok.
